/* Port of the C driver to the model: registers are functions, and a cache stands between the
 * program and memory. */
#ifndef PORT_H
#define PORT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

uint32_t model_read32(uint64_t address);
void model_write32(uint64_t address, uint32_t value);

void port_flush(uint64_t physical, uint32_t bytes);
void port_invalidate(uint64_t physical, uint32_t bytes);
uint8_t* port_memory(size_t bytes, uint64_t* physical);
uintptr_t port_registers(const char* text);

#ifdef __cplusplus
}
#endif

#define DCT_READ32(address) model_read32((uint64_t)(address))
#define DCT_WRITE32(address, value) model_write32((uint64_t)(address), value)
#define DCT_FLUSH(physical, bytes) port_flush(physical, bytes)
#define DCT_INVALIDATE(physical, bytes) port_invalidate(physical, bytes)
#define DCT_MAP_REGISTERS(text) port_registers(text)
#define DCT_MAP_BUFFER(name) port_buffer(name)

#ifdef REGISTER_BYTES /* linux.c, which knows what a region is */
/* The name of a buffer is its size. */
static region port_buffer(const char* name) {
    region result;
    result.size = (size_t)strtoull(name, NULL, 0);
    result.memory = port_memory(result.size, &result.physical);
    return result;
}
#endif

#endif
