/* Stands in for libxrt_coreutil.so.2: the C functions of it that dct_xrt.py calls, over the model
 * that the stand-in of pyxrt has loaded. Only the accelerator can be opened, and only while nobody
 * else has it open. */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static void* library;

void* xrtDeviceOpen(unsigned index) { return index ? NULL : &library; }

int xrtDeviceClose(void* device) { return device != &library; }

int xrtDeviceLoadXclbinFile(void* device, const char* path) {
    char text[4096], *begin, *end;
    FILE* file = fopen(path, "r");
    if (device != &library || !file) return -1;
    text[fread(text, 1, sizeof text - 1, file)] = 0;
    fclose(file);
    begin = strstr(text, "\"library\": \"");
    if (!begin) return -1;
    begin += strlen("\"library\": \"");
    end = strchr(begin, '"');
    *end = 0;
    library = dlopen(begin, RTLD_NOW | RTLD_NOLOAD);
    return library ? 0 : -1;
}

int xrtDeviceGetXclbinUUID(void* device, unsigned char out[16]) {
    memset(out, 7, 16);
    return device != &library;
}

void* xrtPLKernelOpenExclusive(void* device, const unsigned char uuid[16], const char* name) {
    const int* contexts = library ? dlsym(library, "model_contexts") : NULL;
    if (device != &library || uuid[0] != 7 || !contexts || *contexts) return NULL;
    return strstr(name, ":{") ? library : NULL;
}

int xrtKernelClose(void* kernel) { return kernel != library; }

int xrtKernelReadRegister(void* kernel, uint32_t offset, uint32_t* value) {
    uint32_t (*read)(uint64_t) = (uint32_t (*)(uint64_t))dlsym(library, "model_read32");
    if (kernel != library || !read) return -1;
    *value = read(0x40000000 + offset);
    return 0;
}
