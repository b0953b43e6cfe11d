// Counts the steps of each process (iterations of pipelined loops) through the kernels' pragma
// macro, and prints them with the steps in which words were read and written.
#ifndef PROBE_H
#define PROBE_H

#include <cstdio>
#include <string>
#include <vector>

namespace probe {

static long step = -1;

constexpr bool is_pipeline(const char* pragma) { return pragma[0] == 'p' && pragma[1] == 'i'; }

inline void steps(const char* process) {
    std::printf("steps %s %ld\n", process, step + 1);
    step = -1;
}

inline void words(const char* kind, const char* process, const char* stream,
                  const std::vector<long>& at) {
    std::printf("%s %s %s", kind, process, stream);
    for (long s : at) std::printf(" %ld", s);
    std::printf("\n");
}

}  // namespace probe

#define DCT_HLS(...) \
    if (probe::is_pipeline(#__VA_ARGS__)) ++probe::step;

#endif
