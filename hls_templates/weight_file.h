// What a test bench of a design with loaded weights has more: the container, as the words of a
// memory.
#ifndef DCT_WEIGHT_FILE_H
#define DCT_WEIGHT_FILE_H

#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "testbench.h"

namespace dct {

// Takes an option and its value out of the arguments.
inline std::string take_option(int& argc, char** argv, const std::string& name,
                               const std::string& otherwise) {
    std::string value = otherwise;
    int kept = 1;
    for (int i = 1; i < argc; ++i) {
        if (argv[i] == name && i + 1 < argc)
            value = argv[++i];
        else
            argv[kept++] = argv[i];
    }
    argc = kept;
    return value;
}

struct weight_file {
    std::vector<ap_uint<32> > words;
    unsigned bytes;

    explicit weight_file(const std::string& path) {
        std::ifstream file(path, std::ios::binary);
        if (!file) testbench::refuse(path + ": cannot be read");
        const std::vector<char> data{std::istreambuf_iterator<char>(file),
                                     std::istreambuf_iterator<char>()};
        bytes = static_cast<unsigned>(data.size());
        words.assign(bytes / 4 + 1, 0);
        for (unsigned i = 0; i < bytes; ++i)
            words[i / 4] |= ap_uint<32>(static_cast<unsigned char>(data[i])) << 8 * (i % 4);
    }

    const ap_uint<32>* memory() const { return words.data(); }
};

}  // namespace dct

#endif
