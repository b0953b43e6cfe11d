// Stand-in for the vendor's hls::stream in C simulation with g++: an unbounded queue.
#ifndef DCT_SIM_HLS_STREAM_H
#define DCT_SIM_HLS_STREAM_H

#include <cstddef>
#include <functional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

// Says that streams have on_write(): the vendor's have not.
#define DCT_STREAM_HAS_ON_WRITE

namespace hls {

template <class T>
class stream {
  public:
    stream() {}
    explicit stream(const char* name) : name_(name) {}
    stream(const stream&) = delete;
    stream& operator=(const stream&) = delete;

    // A C simulation that reads too much is a bug; on the board it would be a deadlock.
    T read() {
        if (count_ == 0)
            throw std::runtime_error("hls::stream" + (name_.empty() ? "" : " " + name_) +
                                     ": read from an empty stream after " +
                                     std::to_string(written_) + " words");
        T value = ring_[head_];
        head_ = (head_ + 1) & (ring_.size() - 1);
        --count_;
        return value;
    }
    void read(T& value) { value = read(); }

    void write(const T& value) {
        if (count_ == ring_.size()) grow();
        ring_[(head_ + count_) & (ring_.size() - 1)] = value;
        ++count_;
        ++written_;
        if (on_write_) on_write_(value);
    }

    bool empty() const { return count_ == 0; }
    std::size_t size() const { return count_; }

    void on_write(std::function<void(const T&)> observer) { on_write_ = std::move(observer); }

  private:
    // The ring's size stays a power of two, so that positions wrap by a mask.
    void grow() {
        std::vector<T> larger(ring_.empty() ? 64 : 2 * ring_.size());
        for (std::size_t i = 0; i < count_; ++i)
            larger[i] = ring_[(head_ + i) & (ring_.size() - 1)];
        ring_.swap(larger);
        head_ = 0;
    }

    std::string name_;
    std::vector<T> ring_;
    std::size_t head_ = 0, count_ = 0, written_ = 0;
    std::function<void(const T&)> on_write_;
};

}  // namespace hls

#endif
