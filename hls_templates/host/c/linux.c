/* An example for Linux: runs the accelerator on arrays in files and prints what it took.
 *
 *     example [-r] [-w WEIGHTS] [-p POLLS] CONTROL DMA... BUFFER INPUT... OUTPUT...
 *
 * CONTROL and DMA say where registers are: a physical address (see design.h), which is reached
 * through /dev/mem, or a UIO device (/dev/uio0). There is one DMA for each input, then one for each
 * output, in the order of design.h. BUFFER is the name of a u-dma-buf device (udmabuf0), memory
 * that is physically contiguous. INPUT and OUTPUT are files of doubles, frame after frame in the
 * model's own layout; with -r outputs are raw integers of 64 bits. -w loads weights first, -p says
 * how often to look before giving up. */
#define _POSIX_C_SOURCE 200809L
#define _FILE_OFFSET_BITS 64

#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "design.h"

#define REGISTER_BYTES 0x10000U
#define ALIGNMENT 64U /* of buffers: a cache line, and the widest beat */
#define INPUTS ACCELERATOR_INPUT_COUNT
#define OUTPUTS ACCELERATOR_OUTPUT_COUNT

typedef struct {
    uint8_t* memory;
    uint64_t physical;
    size_t size;
} region;

static char** outputs; /* their paths, once they have been opened */

/* Says what is wrong and leaves; half a file stays for nobody. */
static void fail(const char* format, ...) {
    va_list rest;
    int k;
    for (k = 0; outputs != NULL && k < OUTPUTS; ++k) remove(outputs[k]);
    va_start(rest, format);
    fputs("error: ", stderr);
    vfprintf(stderr, format, rest);
    fputc('\n', stderr);
    va_end(rest);
    exit(2);
}

#ifdef DCT_PORT_HEADER
#include DCT_PORT_HEADER
#endif

#ifndef DCT_MAP_REGISTERS
#define DCT_MAP_REGISTERS(text) map_registers(text)
static uintptr_t map_registers(const char* text) {
    const int is_uio = strncmp(text, "/dev/", 5) == 0;
    const uint64_t address = is_uio ? 0U : (uint64_t)strtoull(text, NULL, 0);
    const int file = open(is_uio ? text : "/dev/mem", O_RDWR | O_SYNC);
    void* mapped;
    if (file < 0) fail("%s: cannot be opened", is_uio ? text : "/dev/mem");
    mapped = mmap(NULL, REGISTER_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, file, (off_t)address);
    if (mapped == MAP_FAILED) fail("%s: cannot be mapped", text);
    return (uintptr_t)mapped;
}
#endif

#ifndef DCT_MAP_BUFFER
#define DCT_MAP_BUFFER(name) map_buffer(name)
static uint64_t attribute(const char* device, const char* name) {
    char path[256];
    unsigned long long value = 0;
    FILE* file;
    snprintf(path, sizeof path, "/sys/class/u-dma-buf/%s/%s", device, name);
    file = fopen(path, "r");
    if (file == NULL || fscanf(file, "%lli", (long long*)&value) != 1)
        fail("%s: cannot be read. Is the module u-dma-buf loaded?", path);
    fclose(file);
    return value;
}

static region map_buffer(const char* name) {
    char path[256];
    region result;
    int file;
    void* mapped;
    snprintf(path, sizeof path, "/dev/%s", name);
    result.physical = attribute(name, "phys_addr");
    result.size = (size_t)attribute(name, "size");
    file = open(path, O_RDWR | O_SYNC); /* O_SYNC: not cached */
    if (file < 0) fail("%s: cannot be opened", path);
    mapped = mmap(NULL, result.size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (mapped == MAP_FAILED) fail("%s: cannot be mapped", path);
    result.memory = (uint8_t*)mapped;
    return result;
}
#endif

static void check(const accelerator_driver* driver, accelerator_status status, const char* what) {
    if (status == ACCELERATOR_OK) return;
    if (driver != NULL && driver->culprit != NULL)
        fail("%s: %s: dma_%s", what, accelerator_describe(status), driver->culprit->identifier);
    if (status == ACCELERATOR_REFUSED)
        fail("%s: %s: weight_status %" PRIu32, what, accelerator_describe(status),
             driver->weight_status);
    fail("%s: %s", what, accelerator_describe(status));
}

/* Streamed weights stay at the start of the buffer, which begins behind them then. */
static void load(accelerator_driver* driver, region* buffer, const char* path, uint32_t polls) {
    FILE* file = fopen(path, "rb");
    size_t bytes, kept;
    if (file == NULL) fail("%s: cannot be read", path);
    bytes = fread(buffer->memory, 1, buffer->size, file);
    if (fgetc(file) != EOF) fail("%s: is larger than the buffer", path);
    fclose(file);
    check(driver, accelerator_load_weights(driver, buffer->physical, (uint32_t)bytes, polls), path);
    if (!driver->design->is_streamed) return;
    kept = (bytes + ALIGNMENT - 1U) / ALIGNMENT * ALIGNMENT;
    if (kept > buffer->size) kept = buffer->size;
    buffer->memory += kept;
    buffer->physical += kept;
    buffer->size -= kept;
}

static FILE* files[INPUTS + OUTPUTS];
static uint8_t* memories[INPUTS + OUTPUTS];
static uint64_t addresses[INPUTS + OUTPUTS];
static uintptr_t engines[INPUTS + OUTPUTS];

static const accelerator_terminal* terminal(uint32_t k) {
    return k < INPUTS ? &ACCELERATOR_DESIGN.inputs[k] : &ACCELERATOR_DESIGN.outputs[k - INPUTS];
}

/* Cuts the buffer into one piece for each input and output; returns how many frames go into them.
 */
static uint32_t share(const region* buffer) {
    uint64_t a_frame = 0, at = 0;
    uint32_t frames, k;
    for (k = 0; k < INPUTS + OUTPUTS; ++k) a_frame += accelerator_frame_bytes(terminal(k));
    if (buffer->size < a_frame + (INPUTS + OUTPUTS) * ALIGNMENT)
        fail("the buffer has %zu bytes, a frame takes %" PRIu64, buffer->size, a_frame);
    frames = (uint32_t)((buffer->size - (INPUTS + OUTPUTS) * ALIGNMENT) / a_frame);
    if (frames > accelerator_most_frames(&ACCELERATOR_DESIGN))
        frames = accelerator_most_frames(&ACCELERATOR_DESIGN);
    for (k = 0; k < INPUTS + OUTPUTS; ++k) {
        const uint64_t bytes = (uint64_t)frames * accelerator_frame_bytes(terminal(k));
        memories[k] = buffer->memory + at;
        addresses[k] = buffer->physical + at;
        at += (bytes + ALIGNMENT - 1U) / ALIGNMENT * ALIGNMENT;
    }
    return frames;
}

static double* numbers; /* room for a frame of any terminal */

/* Up to `most` frames of an input; returns how many there were. */
static uint32_t take(uint32_t k, uint32_t most, const char* path) {
    const accelerator_terminal* input = terminal(k);
    uint32_t frame;
    for (frame = 0; frame < most; ++frame) {
        uint8_t* to = memories[k] + (uint64_t)frame * accelerator_frame_bytes(input);
        const size_t count = fread(numbers, sizeof *numbers, input->size, files[k]);
        if (count == 0U && feof(files[k])) break;
        if (count != input->size) fail("%s: ends inside a frame", path);
        check(NULL, accelerator_put_double(input, numbers, to), path);
    }
    return frame;
}

static void give(uint32_t k, uint32_t frames, int is_raw, const char* path) {
    const accelerator_terminal* output = terminal(k);
    uint32_t frame;
    for (frame = 0; frame < frames; ++frame) {
        const uint8_t* from = memories[k] + (uint64_t)frame * accelerator_frame_bytes(output);
        if (is_raw)
            accelerator_get_raw(output, from, (int64_t*)(void*)numbers);
        else
            check(NULL, accelerator_get_double(output, from, numbers), path);
        if (fwrite(numbers, sizeof *numbers, output->size, files[k]) != output->size)
            fail("%s: cannot be written", path);
    }
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static void work(accelerator_driver* driver, uint32_t most, uint32_t polls, int is_raw,
                 char** paths) {
    uint64_t total = 0;
    double seconds = 0;
    for (;;) {
        const uint32_t frames = take(0, most, paths[0]);
        double begin;
        uint32_t k;
        for (k = 1; k < INPUTS; ++k)
            if (take(k, most, paths[k]) != frames) fail("%s: has other frames", paths[k]);
        if (frames == 0U) break;
        begin = now();
        check(driver, accelerator_run(driver, frames, addresses, addresses + INPUTS, polls), "run");
        seconds += now() - begin;
        total += frames;
        for (k = INPUTS; k < INPUTS + OUTPUTS; ++k) give(k, frames, is_raw, paths[k]);
    }
    printf("{\"build_id\": %" PRIu32 ", \"frames\": %" PRIu64 ", \"seconds\": %.9f",  //
           ACCELERATOR_DESIGN.build_id, total, seconds);
    printf(", \"frames_per_second\": %.3f}\n", seconds > 0 ? (double)total / seconds : 0.0);
}

static uint32_t number(const char* text) {
    char* end;
    const unsigned long long value = strtoull(text, &end, 0);
    if (*text == '\0' || *text == '-' || *end != '\0' || value == 0U || value > UINT32_MAX)
        fail("-p %s: is no number of polls", text);
    return (uint32_t)value;
}

int main(int argc, char** argv) {
    static accelerator_driver driver;
    const char* weights = NULL;
    uint32_t polls = 50000000U, most, largest = 0, k;
    int is_raw = 0, option;
    uintptr_t control;
    region buffer;
    while ((option = getopt(argc, argv, "rw:p:")) != -1) {
        if (option == 'r')
            is_raw = 1;
        else if (option == 'w')
            weights = optarg;
        else if (option == 'p')
            polls = number(optarg);
        else
            return 2;
    }
    argv += optind;
    if (argc - optind != 2 + 2 * (INPUTS + OUTPUTS))
        fail(
            "usage: [-r] [-w WEIGHTS] [-p POLLS] CONTROL DMA... BUFFER INPUT... OUTPUT..., for %d "
            "inputs and %d outputs",
            INPUTS, OUTPUTS);
    control = DCT_MAP_REGISTERS(argv[0]);
    for (k = 0; k < INPUTS + OUTPUTS; ++k) engines[k] = DCT_MAP_REGISTERS(argv[1U + k]);
    argv += 1 + INPUTS + OUTPUTS;
    buffer = DCT_MAP_BUFFER(argv[0]);
    ++argv;
    for (k = 0; k < INPUTS + OUTPUTS; ++k) {
        files[k] = fopen(argv[k], k < INPUTS ? "rb" : "wb");
        if (files[k] == NULL) fail("%s: cannot be opened", argv[k]);
        if (k >= INPUTS) outputs = argv + INPUTS;
        if (terminal(k)->size > largest) largest = terminal(k)->size;
    }
    numbers = (double*)malloc(largest * sizeof *numbers);
    if (numbers == NULL) fail("there is no memory for a frame");
    check(&driver,
          accelerator_open(&driver, &ACCELERATOR_DESIGN, control, engines, engines + INPUTS, polls),
          "open");
    if (weights != NULL) load(&driver, &buffer, weights, polls);
    most = share(&buffer);
    work(&driver, most, polls, is_raw, argv);
    for (k = INPUTS; k < INPUTS + OUTPUTS; ++k)
        if (fclose(files[k]) != 0) fail("%s: cannot be written", argv[k]);
    free(numbers);
    return 0;
}
