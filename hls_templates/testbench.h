// What a generated test bench is made of:
//
//   int main(int argc, char** argv) {
//       dct::testbench bench(argc, argv, 784, 10);  // values a frame of all inputs, all outputs
//       for (int frame = 0; frame < bench.frames(); ++frame) {
//           hls::stream<in_beat> in;
//           hls::stream<out_beat> out;
//           dct::send<in_config>(bench.inputs(frame), in);
//           top(in, out, 1, build_id);
//           dct::receive<out_config>(out, bench.outputs(frame), bench, "dense_2", frame, true);
//       }
//       return bench.finish();
//   }
//
// A further input or output of a frame starts where the one before it ends, at
// bench.inputs(frame) + n.
//
// The config of an input or output holds element_t, LANES, LANE_BITS (as for axis.h) and the order
// of the beats: OUT_0 .. OUT_4 are the sizes of the channels-last tensor, STRIDE_0 .. STRIDE_4 how
// far each of its dimensions steps in the model's own layout, the one of the files.
#ifndef DCT_TESTBENCH_H
#define DCT_TESTBENCH_H

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "trace.h"
#include "word.h"

namespace dct {

class testbench {
  public:
    // Exits with 2 when an option or a file is wrong.
    testbench(int argc, char** argv, long long inputs_a_frame, long long outputs_a_frame)
        : inputs_a_frame_(inputs_a_frame), outputs_a_frame_(outputs_a_frame) {
        std::set_terminate(fail_on_exception);
        std::string inputs = "tb_data/inputs.dat", outputs = "tb_data/outputs.dat", trace;
        for (int i = 1; i < argc; i += 2) {
            const std::string option = argv[i];
            std::string* value = option == "--inputs"    ? &inputs
                                 : option == "--outputs" ? &outputs
                                 : option == "--trace"   ? &trace
                                 : option == "--dump"    ? &dump_
                                                         : nullptr;
            if (!value || i + 1 == argc)
                refuse(option + ": usage: [--inputs FILE] [--outputs FILE] [--trace DIRECTORY]");
            *value = argv[i + 1];
        }
        inputs_ = read_integers(inputs);
        outputs_ = read_integers(outputs);
        if (inputs_.empty() || inputs_.size() % inputs_a_frame)
            refuse(inputs + ": " + std::to_string(inputs_.size()) +
                   " values are no whole number of " + "frames of " +
                   std::to_string(inputs_a_frame));
        frames_ = static_cast<int>(inputs_.size() / inputs_a_frame);
        if (outputs_.size() != static_cast<std::size_t>(frames_ * outputs_a_frame))
            refuse(outputs + ": " + std::to_string(outputs_.size()) + " values, expected " +
                   std::to_string(frames_) + " frames of " + std::to_string(outputs_a_frame));
#ifdef DCT_TRACING
        trace_directory() = trace;
#else
        if (!trace.empty()) refuse("--trace: this program was built without tracing");
#endif
    }

    int frames() const { return frames_; }
    const long long* inputs(int frame) const { return &inputs_[frame * inputs_a_frame_]; }
    const long long* outputs(int frame) const { return &outputs_[frame * outputs_a_frame_]; }

    // Only the first difference is printed: the ones after it seldom say more.
    void fail(const char* layer, int frame, const std::string& what) {
        if (!failed_) std::printf("FAIL layer=%s frame=%d %s\n", layer, frame, what.c_str());
        failed_ = true;
    }

    void compare(const std::vector<long long>& got, const long long* expected, const char* layer,
                 int frame) {
        for (std::size_t i = 0; i < got.size(); ++i)
            if (got[i] != expected[i]) {
                fail(layer, frame,
                     "index=" + std::to_string(i) + " expected=" + std::to_string(expected[i]) +
                         " got=" + std::to_string(got[i]));
                break;
            }
        compared_ += got.size();
        received_.insert(received_.end(), got.begin(), got.end());
    }

    // The exit code of main.
    int finish() {
        if (!dump_.empty()) {
            std::ofstream file(dump_);
            for (long long value : received_) file << value << '\n';
            if (!file.flush()) refuse(dump_ + ": cannot be written");
        }
        if (compared_ != outputs_.size())
            fail("-", frames_,
                 "expected=" + std::to_string(outputs_.size()) +
                     " values got=" + std::to_string(compared_));
        if (!failed_) std::printf("PASS frames=%d values=%zu\n", frames_, compared_);
        return failed_ ? 1 : 0;
    }

    [[noreturn]] static void refuse(const std::string& message) {
        std::fprintf(stderr, "error: %s\n", message.c_str());
        std::exit(2);
    }

  private:
    // A stream read while empty throws: that is a wrong result, not a crash.
    [[noreturn]] static void fail_on_exception() {
        try {
            if (std::current_exception()) std::rethrow_exception(std::current_exception());
        } catch (const std::exception& error) {
            std::printf("FAIL %s\n", error.what());
        } catch (...) {
            std::printf("FAIL unknown exception\n");
        }
        std::fflush(stdout);
        std::_Exit(1);
    }

    static std::vector<long long> read_integers(const std::string& path) {
        std::ifstream file(path, std::ios::binary);
        if (!file) refuse(path + ": cannot be read");
        std::ostringstream buffer;
        buffer << file.rdbuf();
        const std::string text = buffer.str();
        const char* const blank = " \t\r\n";
        std::vector<long long> values;
        const char* begin = text.c_str();
        const char* at = begin;
        while (*(at += std::strspn(at, blank))) {
            char* end;
            errno = 0;
            values.push_back(std::strtoll(at, &end, 10));
            if (end == at || errno || !std::strchr(blank, *end)) {
                refuse(path + ": value " + std::to_string(values.size()) +
                       " is no integer: " + std::string(at, std::strcspn(at, blank)).substr(0, 40));
            }
            at = end;
        }
        if (at != begin + text.size()) refuse(path + ": holds a zero byte");
        return values;
    }

    long long inputs_a_frame_, outputs_a_frame_;
    std::vector<long long> inputs_, outputs_, received_;
    std::string dump_;
    int frames_ = 0;
    std::size_t compared_ = 0;
    bool failed_ = false;
};

namespace detail {

// Positions in the model's layout, in the order of the stream.
template <class C>
std::vector<long long> stream_order() {
    std::vector<long long> positions;
    for (int i = 0; i < C::OUT_0; ++i)
        for (int j = 0; j < C::OUT_1; ++j)
            for (int k = 0; k < C::OUT_2; ++k)
                for (int l = 0; l < C::OUT_3; ++l)
                    for (int m = 0; m < C::OUT_4; ++m)
                        positions.push_back(1LL * i * C::STRIDE_0 + 1LL * j * C::STRIDE_1 +
                                            1LL * k * C::STRIDE_2 + 1LL * l * C::STRIDE_3 +
                                            1LL * m * C::STRIDE_4);
    return positions;
}

}  // namespace detail

// Sends one input of one frame; values are in the model's own layout.
template <class C, class BEAT>
void send(const long long* values, hls::stream<BEAT>& stream) {
    typedef ap_int<C::LANE_BITS> bus_lane;
    const std::vector<long long> order = detail::stream_order<C>();
    BEAT beat;
    beat.keep = -1;
    beat.strb = -1;
    bus_lane lanes[C::LANES];
    for (std::size_t i = 0; i < order.size(); ++i) {
        const typename C::element_t element = values[order[i]];
        if (element.to_int64() != values[order[i]])
            testbench::refuse("input value " + std::to_string(values[order[i]]) +
                              " does not fit in " +
                              std::to_string(bits<typename C::element_t>::value) + " bits");
        const std::size_t lane = i % C::LANES;
        lanes[lane] = element;
        if (lane == C::LANES - 1) {
            beat.data = pack(lanes);
            beat.last = i + 1 == order.size();
            stream.write(beat);
        }
    }
}

// Takes one output of one frame from the stream and compares it, in the model's own layout. TLAST
// comes with the last frame of a call only, behind which there is nothing.
template <class C, class BEAT>
void receive(hls::stream<BEAT>& stream, const long long* expected, testbench& bench,
             const char* layer, int frame, bool ends_call) {
    typedef ap_int<C::LANE_BITS> bus_lane;
    const std::vector<long long> order = detail::stream_order<C>();
    std::vector<long long> got(order.size());
    bus_lane lanes[C::LANES];
    for (std::size_t i = 0; i < order.size(); ++i) {
        const std::size_t lane = i % C::LANES;
        if (lane == 0) {
            const std::string beat_number = "beat=" + std::to_string(i / C::LANES);
            if (stream.empty()) {
                bench.fail(
                    layer, frame,
                    beat_number + " of " + std::to_string(order.size() / C::LANES) + " is missing");
                return;
            }
            const BEAT beat = stream.read();
            const bool last = ends_call && i + C::LANES == order.size();
            if (bool(beat.last) != last)
                bench.fail(layer, frame,
                           beat_number + " TLAST expected=" + std::to_string(last) +
                               " got=" + std::to_string(!last));
            unpack<bus_lane>(beat.data, lanes);
        }
        got[order[i]] = typename C::element_t(lanes[lane]).to_int64();
    }
    if (ends_call && !stream.empty()) bench.fail(layer, frame, "more beats than the frame has");
    bench.compare(got, expected, layer, frame);
}

}  // namespace dct

#endif
