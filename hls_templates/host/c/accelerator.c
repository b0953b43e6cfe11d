#include "accelerator.h"

#include <stddef.h>

#ifdef DCT_PORT_HEADER
#include DCT_PORT_HEADER
#endif

#ifndef DCT_READ32
static inline uint32_t dct_read32(uintptr_t address) { return *(const volatile uint32_t*)address; }
#define DCT_READ32(address) dct_read32(address)
#endif
#ifndef DCT_WRITE32
static inline void dct_write32(uintptr_t address, uint32_t value) {
    *(volatile uint32_t*)address = value;
}
#define DCT_WRITE32(address, value) dct_write32(address, value)
#endif
#ifndef DCT_FLUSH
#define DCT_FLUSH(physical, bytes) ((void)(physical), (void)(bytes))
#endif
#ifndef DCT_INVALIDATE
#define DCT_INVALIDATE(physical, bytes) ((void)(physical), (void)(bytes))
#endif
#ifndef DCT_BARRIER
#if defined(__aarch64__) || (defined(__ARM_ARCH) && __ARM_ARCH >= 7)
/* The compiler's own is one between processors (dmb ish); the engines are none. */
#define DCT_BARRIER() __asm__ __volatile__("dsb sy" ::: "memory")
#else
#define DCT_BARRIER() __sync_synchronize()
#endif
#endif

#define NO_WEIGHTS 19U /* weight_status: a frame before the first load */

static uint32_t get(const accelerator_driver* driver, uint32_t offset) {
    return DCT_READ32(driver->control + offset);
}

static void set(const accelerator_driver* driver, uint32_t offset, uint32_t value) {
    DCT_WRITE32(driver->control + offset, value);
}

static void set_wide(const accelerator_driver* driver, uint32_t offset, uint64_t value) {
    set(driver, offset, (uint32_t)(value & 0xffffffffU));
    set(driver, offset + 4U, (uint32_t)(value >> 32));
}

/* Looks at a register until the bits of a mask are as wanted. */
static int becomes(uintptr_t address, uint32_t mask, uint32_t wanted, uint32_t polls) {
    for (; polls > 0U; --polls)
        if ((DCT_READ32(address) & mask) == wanted) return 1;
    return 0;
}

/* Resets the channel of an engine and lets it run. */
static int restart(uintptr_t channel, uint32_t polls) {
    DCT_WRITE32(channel + ACCELERATOR_DMA_CONTROL, ACCELERATOR_DMA_RESET);
    if (!becomes(channel + ACCELERATOR_DMA_CONTROL, ACCELERATOR_DMA_RESET, 0, polls)) return 0;
    DCT_WRITE32(channel + ACCELERATOR_DMA_CONTROL, ACCELERATOR_DMA_RUN);
    return becomes(channel + ACCELERATOR_DMA_STATUS, ACCELERATOR_DMA_HALTED, 0, polls);
}

static void transfer(uintptr_t channel, uint64_t address, uint32_t bytes) {
    DCT_WRITE32(channel + ACCELERATOR_DMA_ADDRESS, (uint32_t)(address & 0xffffffffU));
    DCT_WRITE32(channel + ACCELERATOR_DMA_ADDRESS_HIGH, (uint32_t)(address >> 32));
    DCT_WRITE32(channel + ACCELERATOR_DMA_LENGTH, bytes); /* starts it */
}

static accelerator_status state(uintptr_t channel) {
    const uint32_t bits = DCT_READ32(channel + ACCELERATOR_DMA_STATUS);
    if ((bits & ACCELERATOR_DMA_ERRORS) != 0U) return ACCELERATOR_DMA_FAILED;
    return (bits & ACCELERATOR_DMA_IDLE) != 0U ? ACCELERATOR_OK : ACCELERATOR_BUSY;
}

static accelerator_status begin(accelerator_driver* driver, uint32_t frames) {
    /* The reading clears a `done` of before. */
    if ((get(driver, ACCELERATOR_CONTROL) & ACCELERATOR_IDLE) == 0U) return ACCELERATOR_BUSY;
    set(driver, ACCELERATOR_FRAMES, frames);
    DCT_BARRIER();
    set(driver, ACCELERATOR_CONTROL, ACCELERATOR_START);
    driver->is_done = 0;
    return ACCELERATOR_OK;
}

static accelerator_status without_frames(accelerator_driver* driver, uint32_t polls) {
    const accelerator_status status = begin(driver, 0);
    if (status != ACCELERATOR_OK) return status;
    return becomes(driver->control + ACCELERATOR_CONTROL, ACCELERATOR_DONE, ACCELERATOR_DONE, polls)
               ? ACCELERATOR_OK
               : ACCELERATOR_TIMEOUT;
}

static accelerator_status restart_all(accelerator_driver* driver, uint32_t polls) {
    const accelerator_design* design = driver->design;
    uint32_t k;
    for (k = 0; k < design->input_count; ++k)
        if (!restart(driver->input_dma[k] + ACCELERATOR_MM2S, polls)) {
            driver->culprit = &design->inputs[k];
            return ACCELERATOR_TIMEOUT;
        }
    for (k = 0; k < design->output_count; ++k)
        if (!restart(driver->output_dma[k] + ACCELERATOR_S2MM, polls)) {
            driver->culprit = &design->outputs[k];
            return ACCELERATOR_TIMEOUT;
        }
    return ACCELERATOR_OK;
}

accelerator_status accelerator_open(accelerator_driver* driver, const accelerator_design* design,
                                    uintptr_t control, const uintptr_t* input_dma,
                                    const uintptr_t* output_dma, uint32_t polls) {
    accelerator_status status;
    driver->design = design;
    driver->control = control;
    driver->input_dma = input_dma;
    driver->output_dma = output_dma;
    driver->output_addresses = NULL;
    driver->frames = 0;
    driver->is_running = driver->is_done = 0;
    driver->weight_status = 0;
    driver->culprit = NULL;
    driver->weights = 0;
    /* 1, if another program ended in the middle of a load. */
    if (design->decoders > 0U) set(driver, ACCELERATOR_LOAD, 0);
    status = without_frames(driver, polls);
    if (status != ACCELERATOR_OK) return status;
    if (get(driver, ACCELERATOR_BUILD_ID) != design->build_id) return ACCELERATOR_WRONG_HARDWARE;
    driver->has_weights =
        design->decoders == 0U || get(driver, ACCELERATOR_WEIGHT_STATUS) != NO_WEIGHTS;
    return restart_all(driver, polls);
}

uint32_t accelerator_most_frames(const accelerator_design* design) {
    uint32_t largest = 1, k;
    for (k = 0; k < design->input_count; ++k)
        if (accelerator_frame_bytes(&design->inputs[k]) > largest)
            largest = accelerator_frame_bytes(&design->inputs[k]);
    for (k = 0; k < design->output_count; ++k)
        if (accelerator_frame_bytes(&design->outputs[k]) > largest)
            largest = accelerator_frame_bytes(&design->outputs[k]);
    return ACCELERATOR_DMA_LIMIT / largest;
}

accelerator_status accelerator_start(accelerator_driver* driver, uint32_t frames,
                                     const uint64_t* inputs, const uint64_t* outputs) {
    const accelerator_design* design = driver->design;
    accelerator_status status;
    uint32_t k;
    if (driver->is_running) return ACCELERATOR_BUSY;
    if (!driver->has_weights) return ACCELERATOR_NO_WEIGHTS;
    if (frames == 0U || frames > accelerator_most_frames(design)) return ACCELERATOR_TOO_LONG;
    for (k = 0; k < design->input_count; ++k)
        DCT_FLUSH(inputs[k], frames * accelerator_frame_bytes(&design->inputs[k]));
    for (k = 0; k < design->output_count; ++k)
        DCT_INVALIDATE(outputs[k], frames * accelerator_frame_bytes(&design->outputs[k]));
    status = begin(driver, frames);
    if (status != ACCELERATOR_OK) return status;
    driver->is_running = 1;
    driver->frames = frames;
    driver->output_addresses = outputs;
    for (k = 0; k < design->output_count; ++k)
        transfer(driver->output_dma[k] + ACCELERATOR_S2MM, outputs[k],
                 frames * accelerator_frame_bytes(&design->outputs[k]));
    for (k = 0; k < design->input_count; ++k)
        transfer(driver->input_dma[k] + ACCELERATOR_MM2S, inputs[k],
                 frames * accelerator_frame_bytes(&design->inputs[k]));
    return ACCELERATOR_OK;
}

/* An output that came to its end: with as many bytes as it should have? */
static accelerator_status received(const accelerator_driver* driver, uint32_t k) {
    const uintptr_t channel = driver->output_dma[k] + ACCELERATOR_S2MM;
    const uint32_t bytes = driver->frames * accelerator_frame_bytes(&driver->design->outputs[k]);
    const accelerator_status status = state(channel);
    if (status != ACCELERATOR_OK) return status;
    return DCT_READ32(channel + ACCELERATOR_DMA_LENGTH) == bytes ? ACCELERATOR_OK
                                                                 : ACCELERATOR_WRONG_LENGTH;
}

/* The first engine that is not done, or the accelerator itself. */
static accelerator_status progress(accelerator_driver* driver) {
    const accelerator_design* design = driver->design;
    uint32_t k;
    for (k = 0; k < design->input_count; ++k) {
        const accelerator_status status = state(driver->input_dma[k] + ACCELERATOR_MM2S);
        driver->culprit = &design->inputs[k];
        if (status != ACCELERATOR_OK) return status;
    }
    for (k = 0; k < design->output_count; ++k) {
        const accelerator_status status = received(driver, k);
        driver->culprit = &design->outputs[k];
        if (status != ACCELERATOR_OK) return status;
    }
    driver->culprit = NULL;
    if (!driver->is_done)
        driver->is_done = (get(driver, ACCELERATOR_CONTROL) & ACCELERATOR_DONE) != 0U;
    return driver->is_done ? ACCELERATOR_OK : ACCELERATOR_BUSY;
}

accelerator_status accelerator_poll(accelerator_driver* driver) {
    const accelerator_design* design = driver->design;
    accelerator_status status;
    uint32_t k;
    if (!driver->is_running) return ACCELERATOR_OK;
    status = progress(driver);
    if (status != ACCELERATOR_OK) return status;
    driver->is_running = 0;
    DCT_BARRIER();
    for (k = 0; k < design->output_count; ++k)
        DCT_INVALIDATE(driver->output_addresses[k],
                       driver->frames * accelerator_frame_bytes(&design->outputs[k]));
    if (design->is_streamed) {
        driver->weight_status = get(driver, ACCELERATOR_WEIGHT_STATUS);
        if (driver->weight_status != 0U) return ACCELERATOR_REFUSED;
    }
    return ACCELERATOR_OK;
}

accelerator_status accelerator_wait(accelerator_driver* driver, uint32_t polls) {
    for (; polls > 0U; --polls) {
        const accelerator_status status = accelerator_poll(driver);
        if (status != ACCELERATOR_BUSY) return status;
    }
    return ACCELERATOR_TIMEOUT;
}

accelerator_status accelerator_run(accelerator_driver* driver, uint32_t frames,
                                   const uint64_t* inputs, const uint64_t* outputs,
                                   uint32_t polls) {
    accelerator_status status = accelerator_start(driver, frames, inputs, outputs);
    if (status != ACCELERATOR_OK) return status;
    status = accelerator_wait(driver, polls);
    if (status != ACCELERATOR_OK) accelerator_stop(driver);
    return status;
}

/* Tells all decoders where the container is. */
static void point(const accelerator_driver* driver, uint64_t address) {
    uint32_t k;
    set_wide(driver, ACCELERATOR_WEIGHT_CODES, address);
    set_wide(driver, ACCELERATOR_WEIGHT_RAW, address);
    for (k = 0; k < 2U * (driver->design->decoders - 1U); ++k)
        set_wide(driver, ACCELERATOR_FURTHER_WEIGHTS + 0x10U * k, address);
}

accelerator_status accelerator_load_weights(accelerator_driver* driver, uint64_t address,
                                            uint32_t bytes, uint32_t polls) {
    accelerator_status status;
    if (driver->design->decoders == 0U) return ACCELERATOR_CONSTANT;
    if (driver->is_running) return ACCELERATOR_BUSY;
    DCT_FLUSH(address, (bytes + 3U) / 4U * 4U);
    point(driver, address);
    set(driver, ACCELERATOR_WEIGHT_BYTES, bytes);
    set(driver, ACCELERATOR_LOAD, 1);
    status = without_frames(driver, polls);
    set(driver, ACCELERATOR_LOAD, 0);
    if (status != ACCELERATOR_OK) return status;
    driver->weight_status = get(driver, ACCELERATOR_WEIGHT_STATUS);
    if (driver->weight_status != 0U) {
        point(driver, driver->weights); /* those from before are still read */
        return ACCELERATOR_REFUSED;
    }
    driver->weights = address;
    driver->has_weights = 1;
    return ACCELERATOR_OK;
}

void accelerator_stop(accelerator_driver* driver) {
    const accelerator_design* design = driver->design;
    uint32_t k;
    for (k = 0; k < design->input_count; ++k)
        DCT_WRITE32(driver->input_dma[k] + ACCELERATOR_MM2S + ACCELERATOR_DMA_CONTROL,
                    ACCELERATOR_DMA_RESET);
    for (k = 0; k < design->output_count; ++k)
        DCT_WRITE32(driver->output_dma[k] + ACCELERATOR_S2MM + ACCELERATOR_DMA_CONTROL,
                    ACCELERATOR_DMA_RESET);
    driver->is_running = 0;
}
