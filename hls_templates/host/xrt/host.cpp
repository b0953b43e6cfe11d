// Runs the accelerator on arrays in files, through the native API of XRT (2.13 and later).
//
//     host --image FILE.xclbin --inputs X.npy --outputs Y.npy [--raw] [--weights FILE] [--repeat N]
//          [--batch N] [--timeout MILLISECONDS] [--device N]
//
// --inputs and --outputs are given once for each input and output, in the order of c/design.h. The
// last line of the standard output is a JSON object: build_id, frames, seconds, frames_per_second.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "../c/design.h"
#include "npy.hpp"
#include "xrt/xrt_bo.h"
#include "xrt/xrt_device.h"
#include "xrt/xrt_kernel.h"

namespace {

const std::size_t BATCH_BYTES = 64 << 20;  // of a buffer, unless a frame is larger
const unsigned NO_WEIGHTS = 19;
const int MOVER_MEMORY = 0, MOVER_BEATS = 1;  // arguments of a mover, see hls/flow/movers.cpp

[[noreturn]] void fail(const std::string& message) { throw std::runtime_error(message); }

struct options {
    std::string image, weights;
    std::vector<std::string> inputs, outputs;
    bool is_raw = false;
    unsigned repeat = 1, batch = 0, timeout = 10000, device = 0;
};

unsigned number(const std::string& option, const std::string& text) {
    char* end = nullptr;
    const unsigned long value = std::strtoul(text.c_str(), &end, 10);
    if (text.empty() || *end || value > 0x7fffffff) fail(option + " " + text + ": is no number");
    return static_cast<unsigned>(value);
}

options parse(int argc, char** argv) {
    options result;
    for (int i = 1; i < argc; ++i) {
        const std::string option = argv[i];
        if (option == "--raw") {
            result.is_raw = true;
            continue;
        }
        if (i + 1 == argc) fail(option + ": needs a value, or is unknown");
        const std::string value = argv[++i];
        if (option == "--image")
            result.image = value;
        else if (option == "--inputs")
            result.inputs.push_back(value);
        else if (option == "--outputs")
            result.outputs.push_back(value);
        else if (option == "--weights")
            result.weights = value;
        else if (option == "--repeat")
            result.repeat = std::max(1U, number(option, value));
        else if (option == "--batch")
            result.batch = number(option, value);
        else if (option == "--timeout")
            result.timeout = number(option, value);
        else if (option == "--device")
            result.device = number(option, value);
        else
            fail(option + ": unknown option");
    }
    const accelerator_design& design = ACCELERATOR_DESIGN;
    if (result.image.empty()) fail("--image is missing");
    if (result.inputs.size() != design.input_count || result.outputs.size() != design.output_count)
        fail("--inputs has to be given " + std::to_string(design.input_count) +
             " time(s), --outputs " + std::to_string(design.output_count));
    return result;
}

// One input or output: its data mover, and its buffer in the card's memory.
struct lane {
    const accelerator_terminal* terminal;
    bool is_input;
    xrt::kernel mover;
    xrt::bo buffer;
    std::vector<std::uint8_t> bytes;  // of all frames

    std::size_t frame_bytes() const { return accelerator_frame_bytes(terminal); }
    unsigned frame_beats() const { return terminal->size / terminal->lanes; }
    std::string instance() const {
        return std::string(is_input ? "mm2s_" : "s2mm_") + terminal->identifier;
    }
};

class accelerator {
  public:
    accelerator(const options& chosen)
        : device_(chosen.device),
          uuid_(device_.load_xclbin(chosen.image)),
          // Only an exclusive context may read registers, where results are that are no stream.
          kernel_(device_, uuid_, instance(design_.name), xrt::kernel::cu_access_mode::exclusive),
          timeout_(chosen.timeout) {
        std::size_t largest = 1;
        for (unsigned k = 0; k < design_.input_count; ++k) add(&design_.inputs[k], true);
        for (unsigned k = 0; k < design_.output_count; ++k) add(&design_.outputs[k], false);
        for (const lane& one : lanes_) largest = std::max(largest, one.frame_bytes());
        batch_ = std::max<std::size_t>(1, chosen.batch ? chosen.batch : BATCH_BYTES / largest);
        start_and_wait(0, nullptr, 0);
        build_id_ = kernel_.read_register(ACCELERATOR_BUILD_ID);
        if (build_id_ != design_.build_id) {
            char text[160];
            std::snprintf(text, sizeof text,
                          "the hardware has the build id 0x%08x, this program was built for 0x%08x",
                          build_id_, design_.build_id);
            fail(text);
        }
    }

    unsigned build_id() const { return build_id_; }
    std::vector<lane>& lanes() { return lanes_; }

    void load(const std::string& path) {
        if (design_.decoders == 0) fail("the weights of this accelerator are constants");
        std::ifstream file(path, std::ios::binary);
        if (!file) fail(path + ": cannot be read");
        std::vector<char> data((std::istreambuf_iterator<char>(file)),
                               std::istreambuf_iterator<char>());
        const unsigned bytes = static_cast<unsigned>(data.size());
        if (bytes == 0) fail(path + ": is empty");
        data.resize((data.size() + 3) / 4 * 4);
        // Arguments may be linked to different memories: a buffer in each of these.
        std::vector<xrt::bo> memories;
        std::map<int, xrt::bo> known;
        for (unsigned k = 0; k < 2 * design_.decoders; ++k) {
            const int group = kernel_.group_id(pointer(k));
            if (known.find(group) == known.end()) {
                known[group] = xrt::bo(device_, data.size(), group);
                known[group].write(data.data(), data.size(), 0);
                known[group].sync(XCL_BO_SYNC_BO_TO_DEVICE, data.size(), 0);
            }
            memories.push_back(known[group]);
        }
        start_and_wait(0, &memories, bytes);
        const unsigned status = kernel_.read_register(ACCELERATOR_WEIGHT_STATUS);
        if (status != 0)
            fail(path + ": the weights were refused, status " + std::to_string(status) +
                 " (docs/hardware.md)");
        // Streamed weights are read again for every frame.
        if (design_.is_streamed) {
            weights_ = memories;
            weight_bytes_ = bytes;
        }
    }

    // All frames whose bytes are in the lanes of inputs, to those of outputs; gives the seconds.
    double run(std::size_t frames) {
        if (design_.decoders > 0 && kernel_.read_register(ACCELERATOR_WEIGHT_STATUS) == NO_WEIGHTS)
            fail("the accelerator has no weights yet. Load some with --weights.");
        for (lane& one : lanes_) {
            const std::size_t most = std::min(batch_, frames) * one.frame_bytes();
            if (!one.is_input) one.bytes.assign(frames * one.frame_bytes(), 0);
            if (!one.buffer || one.buffer.size() < most)
                one.buffer = xrt::bo(device_, most, one.mover.group_id(MOVER_MEMORY));
        }
        const auto begin = std::chrono::steady_clock::now();
        for (std::size_t first = 0; first < frames; first += batch_)
            call(first, std::min(batch_, frames - first));
        return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    }

  private:
    static std::string instance(const std::string& name) { return name + ":{" + name + "_1}"; }
    int first_scalar() const { return static_cast<int>(lanes_.size()); }  // streams come first
    // The argument that is pointer `k` to the weights; those of further decoders come last.
    int pointer(unsigned k) const {
        return first_scalar() + 2 + static_cast<int>(k < 2 ? k : k + 3);
    }

    void add(const accelerator_terminal* terminal, bool is_input) {
        lane one{terminal, is_input, {}, {}, {}};
        one.mover = xrt::kernel(device_, uuid_, instance(one.instance()));
        lanes_.push_back(one);
    }

    // With `weights` a call that loads them.
    xrt::run start(std::size_t frames, const std::vector<xrt::bo>* weights, unsigned bytes) {
        xrt::run result(kernel_);
        const unsigned count = static_cast<unsigned>(frames);
        const bool load = weights != nullptr;
        result.set_arg(first_scalar(), count);
        const std::vector<xrt::bo>& pointers = load ? *weights : weights_;
        for (unsigned k = 0; k < pointers.size(); ++k) result.set_arg(pointer(k), pointers[k]);
        if (!load) bytes = weight_bytes_;
        if (design_.decoders > 0) {
            result.set_arg(first_scalar() + 4, bytes);
            result.set_arg(first_scalar() + 5, load);
        }
        result.start();
        return result;
    }

    void start_and_wait(std::size_t frames, const std::vector<xrt::bo>* weights, unsigned bytes) {
        wait(start(frames, weights, bytes), design_.name);
    }

    void wait(const xrt::run& run, const std::string& what) {
        const ert_cmd_state state = run.wait(timeout_);
        if (state == ERT_CMD_STATE_TIMEOUT) fail(what + " did not finish in time");
        if (state != ERT_CMD_STATE_COMPLETED)
            fail(what + " failed, state " + std::to_string(static_cast<int>(state)));
    }

    xrt::run move(lane& one, std::size_t frames) {
        xrt::run result(one.mover);
        const unsigned beats = static_cast<unsigned>(frames) * one.frame_beats();
        result.set_arg(MOVER_MEMORY, one.buffer);
        result.set_arg(MOVER_BEATS, beats);
        result.start();
        return result;
    }

    void call(std::size_t first, std::size_t frames) {
        std::vector<xrt::run> movers(lanes_.size());
        for (lane& one : lanes_) {
            if (!one.is_input) continue;
            const std::size_t bytes = frames * one.frame_bytes();
            one.buffer.write(one.bytes.data() + first * one.frame_bytes(), bytes, 0);
            one.buffer.sync(XCL_BO_SYNC_BO_TO_DEVICE, bytes, 0);
        }
        // Who takes data starts before who gives it.
        for (std::size_t k = 0; k < lanes_.size(); ++k)
            if (!lanes_[k].is_input) movers[k] = move(lanes_[k], frames);
        const xrt::run running = start(frames, nullptr, 0);
        for (std::size_t k = 0; k < lanes_.size(); ++k)
            if (lanes_[k].is_input) movers[k] = move(lanes_[k], frames);
        for (std::size_t k = 0; k < lanes_.size(); ++k) wait(movers[k], lanes_[k].instance());
        wait(running, design_.name);
        for (lane& one : lanes_) {
            if (one.is_input) continue;
            const std::size_t bytes = frames * one.frame_bytes();
            one.buffer.sync(XCL_BO_SYNC_BO_FROM_DEVICE, bytes, 0);
            one.buffer.read(one.bytes.data() + first * one.frame_bytes(), bytes, 0);
        }
        if (design_.is_streamed && kernel_.read_register(ACCELERATOR_WEIGHT_STATUS) != 0)
            fail("the weights in memory are not those that were loaded. Load them again.");
    }

    const accelerator_design& design_ = ACCELERATOR_DESIGN;
    xrt::device device_;
    xrt::uuid uuid_;
    xrt::kernel kernel_;
    std::chrono::milliseconds timeout_;
    std::vector<lane> lanes_;
    std::size_t batch_ = 1;
    unsigned build_id_ = 0;
    std::vector<xrt::bo> weights_;  // that the accelerator goes on reading
    unsigned weight_bytes_ = 0;
};

// An element of an array as the raw integer of a terminal: real numbers are quantized.
double real_at(const npy::array& from, std::size_t index, const std::string& path) {
    if (from.bytes == 8) return from.at<double>(index);
    if (from.bytes == 4) return static_cast<double>(from.at<float>(index));
    fail(path + ": holds numbers of 16 bits. Save them as float32.");
}

std::int64_t integer_at(const npy::array& from, std::size_t index) {
    const bool is_signed = from.kind == 'i';
    switch (from.bytes) {
        case 1:
            return is_signed ? from.at<std::int8_t>(index) : from.at<std::uint8_t>(index);
        case 2:
            return is_signed ? from.at<std::int16_t>(index) : from.at<std::uint16_t>(index);
        case 4:
            return is_signed ? from.at<std::int32_t>(index) : from.at<std::uint32_t>(index);
        default:
            return from.at<std::int64_t>(index);
    }
}

// Does the type of a terminal hold this element?
bool fits(const accelerator_terminal& terminal, std::int64_t raw, bool is_above_63_bits) {
    if (is_above_63_bits) return !terminal.is_signed && terminal.width == 64;
    if (terminal.is_signed)
        return raw >> (terminal.width - 1) == 0 || raw >> (terminal.width - 1) == -1;
    return raw >= 0 && (terminal.width >= 63 || raw >> terminal.width == 0);
}

void pack(lane& to, const std::string& path, std::size_t& frames) {
    const npy::array from = npy::read(path);
    const accelerator_terminal& terminal = *to.terminal;
    if (from.size() != from.rows() * terminal.size)
        fail(path + ": has " + std::to_string(from.size() / from.rows()) +
             " numbers a frame, the input " + std::string(terminal.name) + " takes " +
             std::to_string(terminal.size));
    if (frames && frames != from.rows()) fail(path + ": has another number of frames");
    frames = from.rows();
    to.bytes.resize(frames * to.frame_bytes());
    std::vector<double> reals(terminal.size);
    std::vector<std::int64_t> integers(terminal.size);
    for (std::size_t frame = 0; frame < frames; ++frame) {
        std::uint8_t* target = to.bytes.data() + frame * to.frame_bytes();
        const std::size_t first = frame * terminal.size;
        if (from.kind == 'f') {
            for (std::size_t i = 0; i < terminal.size; ++i)
                reals[i] = real_at(from, first + i, path);
            if (accelerator_put_double(&terminal, reals.data(), target) != ACCELERATOR_OK)
                fail(path + ": holds NaN or infinity in frame " + std::to_string(frame));
            continue;
        }
        for (std::size_t i = 0; i < terminal.size; ++i) {
            integers[i] = integer_at(from, first + i);
            if (!fits(terminal, integers[i],
                      from.kind == 'u' && from.bytes == 8 && integers[i] < 0))
                fail(path + ": an integer does not fit the input " + std::string(terminal.name) +
                     ". Integers are taken as raw; give real values as floats.");
        }
        accelerator_put_raw(&terminal, integers.data(), target);
    }
}

// The model's own shape, batch first: dimensions with larger strides come first.
std::vector<std::size_t> shape(const accelerator_terminal& terminal, std::size_t frames) {
    std::vector<std::pair<std::uint32_t, std::uint32_t>> walked;
    for (unsigned k = 0; k < ACCELERATOR_DIMENSIONS; ++k)
        if (terminal.strides[k]) walked.emplace_back(terminal.strides[k], terminal.sizes[k]);
    std::sort(walked.rbegin(), walked.rend());
    std::vector<std::size_t> result = {frames};
    for (const auto& one : walked) result.push_back(one.second);
    return result;
}

void unpack(const lane& from, const std::string& path, std::size_t frames, bool is_raw) {
    const accelerator_terminal& terminal = *from.terminal;
    std::vector<std::int64_t> integers(is_raw ? frames * terminal.size : 0);
    std::vector<double> reals(is_raw ? 0 : frames * terminal.size);
    for (std::size_t frame = 0; frame < frames; ++frame) {
        const std::uint8_t* source = from.bytes.data() + frame * from.frame_bytes();
        if (is_raw)
            accelerator_get_raw(&terminal, source, integers.data() + frame * terminal.size);
        else if (accelerator_get_double(&terminal, source, reals.data() + frame * terminal.size) !=
                 ACCELERATOR_OK)
            fail(path + ": " + accelerator_describe(ACCELERATOR_INEXACT) + ". Use --raw.");
    }
    const bool is_wide = !terminal.is_signed && terminal.width == 64;
    const void* data = is_raw ? static_cast<const void*>(integers.data()) : reals.data();
    npy::write(path,
               !is_raw   ? "<f8"
               : is_wide ? "<u8"
                         : "<i8",
               shape(terminal, frames), data, 8 * frames * terminal.size);
}

void work(const options& chosen) {
    accelerator hardware(chosen);
    if (!chosen.weights.empty()) hardware.load(chosen.weights);
    std::vector<lane>& lanes = hardware.lanes();
    std::size_t frames = 0;
    for (std::size_t k = 0; k < chosen.inputs.size(); ++k) pack(lanes[k], chosen.inputs[k], frames);
    double seconds = 0;
    for (unsigned k = 0; k < chosen.repeat; ++k) seconds += hardware.run(frames);
    for (std::size_t k = 0; k < chosen.outputs.size(); ++k)
        unpack(lanes[chosen.inputs.size() + k], chosen.outputs[k], frames, chosen.is_raw);
    const unsigned long long total = static_cast<unsigned long long>(frames) * chosen.repeat;
    std::printf(
        "{\"build_id\": %u, \"frames\": %llu, \"seconds\": %.9f, \"frames_per_second\": %.3f}\n",
        hardware.build_id(), total, seconds,
        seconds > 0 ? static_cast<double>(total) / seconds : 0.0);
}

}  // namespace

int main(int argc, char** argv) {
    try {
        work(parse(argc, argv));
    } catch (const std::exception& error) {
        std::fprintf(stderr, "error: %s\n", error.what());
        return 2;
    }
    return 0;
}
