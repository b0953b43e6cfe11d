/* Quantizes and scales back: width, is_signed, fraction, zero point, ties to even, scale and numbers as 64-bit
 * words on the standard input. */
#include <stdio.h>
#include <string.h>

#include "numbers.h"

int main(void) {
    int64_t head[5], raw;
    double value;
    accelerator_terminal terminal;
    memset(&terminal, 0, sizeof terminal);
    if (fread(head, sizeof *head, 5, stdin) != 5) return 2;
    if (fread(&value, sizeof value, 1, stdin) != 1) return 2;
    terminal.scale = (float)value;
    terminal.zero_point = (int32_t)head[3];
    terminal.ties_to_even = (int)head[4];
    terminal.width = (uint32_t)head[0];
    terminal.is_signed = (int)head[1];
    while (fread(&value, sizeof value, 1, stdin) == 1) {
        int64_t answer[4] = {0, 0, 0, 0};
        double back = 0;
        raw = 0;
        answer[0] = accelerator_quantize(&terminal, (int32_t)head[2], value, &raw);
        answer[1] = raw;
        answer[2] = accelerator_dequantize(&terminal, (int32_t)head[2], raw, &back);
        memcpy(&answer[3], &back, sizeof back);
        if (fwrite(answer, sizeof *answer, 4, stdout) != 4) return 2;
    }
    return 0;
}
