// DCT_TRACE(stream, element_t, lanes): from here on every word written to the stream also goes,
// element by element as int64 in the machine's (little-endian) order, to
// <trace_directory()>/<stream>.bin. Put it right after the stream's declaration.
// It is nothing in synthesis, in the vendor's C simulation and where no directory is set.
#ifndef DCT_TRACE_H
#define DCT_TRACE_H

#include <hls_stream.h>

#include "word.h"

#if !defined(__SYNTHESIS__) && !defined(DCT_NO_TRACE) && defined(DCT_STREAM_HAS_ON_WRITE)
#define DCT_TRACING
#endif

#ifndef DCT_TRACING

#define DCT_TRACE(stream, element_t, lanes)

#else

#include <cstdint>
#include <fstream>
#include <memory>
#include <set>
#include <stdexcept>
#include <string>

#define DCT_TRACE(stream, element_t, lanes) ::dct::trace<element_t, lanes>(stream, #stream)

namespace dct {

inline std::string& trace_directory() {
    static std::string directory;
    return directory;
}

// A file is emptied by the first frame of a process and extended by the others.
inline std::shared_ptr<std::ofstream> open_trace(const std::string& name) {
    static std::set<std::string> begun;
    const std::string path = trace_directory() + "/" + name + ".bin";
    const bool first = begun.insert(path).second;
    auto file = std::make_shared<std::ofstream>(
        path, std::ios::binary | (first ? std::ios::trunc : std::ios::app));
    if (!*file) throw std::runtime_error("cannot write the trace " + path);
    return file;
}

template <class T, int LANES>
void trace(hls::stream<word_t<T, LANES> >& stream, const char* name) {
    if (trace_directory().empty()) return;
    auto file = open_trace(name);
    stream.on_write([file](const word_t<T, LANES>& word) {
        for (int lane = 0; lane < LANES; ++lane) {
            const std::int64_t value = get_lane<T>(word, lane).to_int64();
            file->write(reinterpret_cast<const char*>(&value), sizeof value);
        }
    });
}

}  // namespace dct

#endif

#endif
