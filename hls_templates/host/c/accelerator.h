/* Driver of a compiled accelerator behind AXI DMA engines: C99, no heap, bare metal or Linux.
 *
 *     static const uintptr_t inputs[] = ACCELERATOR_INPUT_ADDRESSES;
 *     static const uintptr_t outputs[] = ACCELERATOR_OUTPUT_ADDRESSES;
 *     accelerator_driver driver;
 *     accelerator_status status;
 *     status = accelerator_open(&driver, &digits_design, ACCELERATOR_ADDRESS, inputs, outputs,
 *                               POLLS);
 *     if (status == ACCELERATOR_OK)
 *         status = accelerator_put_float(&digits_design.inputs[0], picture, input_memory);
 *     if (status == ACCELERATOR_OK)
 *         status = accelerator_run(&driver, 1, &input_address, &output_address, POLLS);
 *     if (status == ACCELERATOR_OK)
 *         status = accelerator_get_double(&digits_design.outputs[0], output_memory, scores);
 *
 * `digits_design` and the addresses stand in design.h, which is generated; the functions that put
 * and get stand in numbers.h. Memory is the caller's: for each input and output a physically
 * contiguous buffer of frames x accelerator_frame_bytes, aligned to 64 bytes, of which the driver
 * wants the physical address.
 *
 * A port may replace how registers are reached and caches kept coherent: name a header of yours
 * with -DDCT_PORT_HEADER='"port.h"' that defines some of
 *     DCT_READ32(address)            value of the register at a uintptr_t
 *     DCT_WRITE32(address, value)    sets it
 *     DCT_FLUSH(physical, bytes)     writes cached data back to memory, before a transfer reads it
 *     DCT_INVALIDATE(physical, bytes) drops cached data, around a transfer that writes
 *     DCT_BARRIER()                  all memory accesses of before happen before those that follow
 * By default registers are memory, the barrier is the whole system's on ARM and the compiler's
 * elsewhere, and the other two do nothing: right for buffers that are mapped uncached, or coherent
 * ports. */
#ifndef ACCELERATOR_H
#define ACCELERATOR_H

#include "numbers.h"
#include "registers.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What the hardware looks like. */
typedef struct {
    const char* name;
    uint32_t build_id;
    uint32_t decoders; /* of weights that are loaded; 0 where all are constants */
    int is_streamed;   /* are weights read from memory for every frame? */
    const accelerator_terminal* inputs;
    uint32_t input_count;
    const accelerator_terminal* outputs;
    uint32_t output_count;
} accelerator_design;

/* The state of the driver: the caller provides it, the driver fills it in. */
typedef struct {
    const accelerator_design* design;
    uintptr_t control;
    const uintptr_t* input_dma;
    const uintptr_t* output_dma;
    const uint64_t* output_addresses; /* of the running call */
    uint32_t frames;                  /* of the running call, else 0 */
    uint64_t weights;                 /* address of those that were taken */
    int is_running, is_done, has_weights;
    uint32_t weight_status;              /* of the last load; docs/hardware.md lists the numbers */
    const accelerator_terminal* culprit; /* whose engine failed, or NULL */
} accelerator_driver;

/* Opens the accelerator: resets the engines and compares the build id with the design's.
 *
 * `control` is the base address of the accelerator's registers, as the processor sees it (on Linux,
 * where it is mapped); the arrays hold those of the engines of inputs and outputs in the order of
 * the design, and stay in use. `polls` is how often a register is looked at before giving up.
 * ACCELERATOR_BUSY, ACCELERATOR_TIMEOUT, ACCELERATOR_WRONG_HARDWARE. */
accelerator_status accelerator_open(accelerator_driver* driver, const accelerator_design* design,
                                    uintptr_t control, const uintptr_t* input_dma,
                                    const uintptr_t* output_dma, uint32_t polls);

/* How many frames a call can have: that many bytes of the largest input or output fit a transfer.
 */
uint32_t accelerator_most_frames(const accelerator_design* design);

/* Starts a call and returns at once. Addresses are physical, one for each input and output; those
 * of outputs stay in use until the call is done. ACCELERATOR_BUSY, ACCELERATOR_TOO_LONG,
 * ACCELERATOR_NO_WEIGHTS. */
accelerator_status accelerator_start(accelerator_driver* driver, uint32_t frames,
                                     const uint64_t* inputs, const uint64_t* outputs);

/* Is the call done? ACCELERATOR_OK, ACCELERATOR_BUSY when not, ACCELERATOR_DMA_FAILED,
 * ACCELERATOR_WRONG_LENGTH. */
accelerator_status accelerator_poll(accelerator_driver* driver);

/* Polls until the call is done, or ACCELERATOR_TIMEOUT. */
accelerator_status accelerator_wait(accelerator_driver* driver, uint32_t polls);

/* accelerator_start and accelerator_wait. After a failure the engines are stopped: no memory
 * changes any more. The hardware has to be programmed or reset, and opened again. */
accelerator_status accelerator_run(accelerator_driver* driver, uint32_t frames,
                                   const uint64_t* inputs, const uint64_t* outputs, uint32_t polls);

/* Replaces the weights by those of a container (weights.bin) at a physical address, which is a
 * multiple of 4 and has room for whole 32-bit words. ACCELERATOR_CONSTANT, ACCELERATOR_BUSY,
 * ACCELERATOR_TIMEOUT, ACCELERATOR_REFUSED; then the weights are those from before. */
accelerator_status accelerator_load_weights(accelerator_driver* driver, uint64_t address,
                                            uint32_t bytes, uint32_t polls);

/* Resets all engines: whatever they do ends. */
void accelerator_stop(accelerator_driver* driver);

#ifdef __cplusplus
}
#endif

#endif
