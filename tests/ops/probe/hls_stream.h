// A stream that remembers the step of every read and write; in all else like
// hls_templates/sim/hls_stream.h.
#ifndef PROBE_HLS_STREAM_H
#define PROBE_HLS_STREAM_H

#include <deque>
#include <stdexcept>
#include <vector>

#include "probe.h"

namespace hls {

template <class T>
class stream {
  public:
    stream() {}
    stream(const stream&) = delete;
    stream& operator=(const stream&) = delete;

    T read() {
        if (words_.empty()) throw std::runtime_error("read from an empty stream");
        reads.push_back(probe::step);
        const T value = words_.front();
        words_.pop_front();
        return value;
    }
    void read(T& value) { value = read(); }
    void write(const T& value) {
        writes.push_back(probe::step);
        words_.push_back(value);
    }
    bool empty() const { return words_.empty(); }
    std::size_t size() const { return words_.size(); }

    std::vector<long> reads, writes;

  private:
    std::deque<T> words_;
};

}  // namespace hls

#endif
