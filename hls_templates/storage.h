// Where the memories of a kernel lie.
#ifndef DCT_STORAGE_H
#define DCT_STORAGE_H

#include "pragmas.h"

namespace dct {

// The memories that lie in UltraRAM instead of block RAM: configs.h says so for the config C of a
// kernel. UltraRAM holds nothing before it is written, so that no constant table is among them.
// A pragma cannot depend on a template argument, but a branch around it can.
template <class C>
struct ultra_ram {
    static const bool frame = false;
    static const bool lines = false;
    static const bool matrix = false;
    static const bool pieces = false;
    static const bool results = false;
    static const bool rows = false;
    static const bool sums = false;
    static const bool vectors = false;
};

}  // namespace dct

#endif
