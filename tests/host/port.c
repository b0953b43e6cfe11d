#include "port.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void model_map(uint64_t address, void* pointer, uint64_t size);
void model_plant(int fault);
const char* model_problem(void);

#define PHYSICAL 0x170000000 /* above 4 GiB: both halves of addresses matter */

static uint8_t *cache, *memory;

static void report(void) {
    if (model_problem()[0]) fprintf(stderr, "problem: %s\n", model_problem());
}

uint8_t* port_memory(size_t bytes, uint64_t* physical) {
    cache = malloc(bytes);
    memory = malloc(bytes);
    memset(cache, 0x5a, bytes);
    memset(memory, 0xa5, bytes);
    *physical = PHYSICAL;
    model_map(PHYSICAL, memory, bytes);
    if (getenv("MODEL_FAULT")) model_plant(atoi(getenv("MODEL_FAULT")));
    atexit(report);
    return cache;
}

uintptr_t port_registers(const char* text) { return (uintptr_t)strtoull(text, NULL, 0); }

void port_flush(uint64_t physical, uint32_t bytes) {
    memcpy(memory + (physical - PHYSICAL), cache + (physical - PHYSICAL), bytes);
}

void port_invalidate(uint64_t physical, uint32_t bytes) {
    memcpy(cache + (physical - PHYSICAL), memory + (physical - PHYSICAL), bytes);
}
