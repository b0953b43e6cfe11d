// The hardware around an accelerator as a processor sees it: control registers and AXI DMA engines,
// after AMD PG021 and the registers that Vitis HLS documents for ap_ctrl_hs. Behind them runs the
// generated C++.
//
// Nothing happens at once: transfers and calls advance while registers are read. What a host must
// not do is recorded as a problem, the first one stays.
#ifndef MODEL_H
#define MODEL_H

#include <cstdint>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "ap_axi_sdata.h"
#include "hls_stream.h"
#include "word.h"

namespace model {

const std::uint64_t CONTROL_BASE = 0x40000000, DMA_BASE = 0x40400000, WINDOW = 0x10000;
const std::uint32_t HALTED = 1, IDLE = 2, INTERNAL = 0x10, DECODE = 0x40, COMPLETE = 0x1000;
const int LATENCY = 3;  // registers are read that often before something is done

enum fault { NONE, NEVER_DONE, EARLY_LAST, MISSING_BEAT, OTHER_BUILD, NO_LAST };

inline std::string& problem_text() {
    static std::string text;
    return text;
}

inline void problem(const std::string& text) {
    if (problem_text().empty()) problem_text() = text;
}

struct block {
    std::uint8_t* pointer;
    std::uint64_t size;
};

inline std::map<std::uint64_t, block>& memory() {
    static std::map<std::uint64_t, block> blocks;
    return blocks;
}

// Where physical memory lies, or nullptr when a part of it does not exist.
inline std::uint8_t* resolve(std::uint64_t address, std::uint64_t bytes) {
    auto after = memory().upper_bound(address);
    if (after == memory().begin()) return nullptr;
    const auto& [start, found] = *--after;
    if (address - start > found.size || bytes > found.size - (address - start)) return nullptr;
    return found.pointer + (address - start);
}

// A stream of the accelerator and the engine at its other end.
class port {
  public:
    port(const char* name, bool is_input, std::uint32_t beat_bytes, std::uint32_t frame_beats)
        : name_(name), is_input_(is_input), beat_bytes_(beat_bytes), frame_beats_(frame_beats) {}
    virtual ~port() {}

    std::uint32_t beat_bytes() const { return beat_bytes_; }
    virtual std::size_t beats() const = 0;
    bool has(std::uint64_t frames) const { return !is_input_ || beats() >= frames * frame_beats_; }
    bool is_drained() const { return is_input_ || beats() == 0; }

    std::uint32_t read(std::uint32_t offset) {
        switch (inside(offset)) {
            case 0x00:
                return control_;
            case 0x04:
                return status_;
            case 0x18:
                return static_cast<std::uint32_t>(address_);
            case 0x1c:
                return static_cast<std::uint32_t>(address_ >> 32);
            case 0x28:
                return moved_;
        }
        return problem(name_ + ": no register to read at " + std::to_string(offset)), 0;
    }

    void write(std::uint32_t offset, std::uint32_t value) {
        switch (inside(offset)) {
            case 0x00:
                return control(value);
            case 0x04:
                status_ &= ~(value & 0x7000);
                return;
            case 0x18:
                address_ = (address_ & ~0xffffffffULL) | value;
                return;
            case 0x1c:
                address_ = (address_ & 0xffffffffULL) | static_cast<std::uint64_t>(value) << 32;
                return;
            case 0x28:
                return transfer(value);
        }
        problem(name_ + ": no register to write at " + std::to_string(offset));
    }

    // Time passes.
    void step() {
        if (!active_ || --wait_ > 0) return;
        if (is_input_) {
            if (moved_ < length_) send();
            if (beats() == 0) finish(0);
        } else if (beats() > 0) {
            receive();
        }
    }

    void reset() {
        control_ = 0;
        status_ = HALTED;
        active_ = false;
    }

  protected:
    virtual void put(const std::uint8_t* from, bool last) = 0;
    virtual bool get(std::uint8_t* to) = 0;

  private:
    std::uint32_t inside(std::uint32_t offset) const {
        const std::uint32_t base = is_input_ ? 0x00 : 0x30;  // the other channel is not built
        return offset >= base && offset < base + 0x2c ? offset - base : 0xffff;
    }

    void control(std::uint32_t value) {
        if (value & 4) return reset();
        control_ = value & ~4U;
        if (value & 1)
            status_ &= ~HALTED;
        else
            status_ |= HALTED;
    }

    void transfer(std::uint32_t length) {
        if (status_ & HALTED) return problem(name_ + ": a transfer while halted");
        if (active_) return problem(name_ + ": a transfer while another one runs");
        if (length >> 26) return problem(name_ + ": a length of more than 26 bits");
        if (length % beat_bytes_) return problem(name_ + ": a length that is no number of beats");
        length_ = length;
        moved_ = 0;
        status_ &= ~IDLE;
        place_ = resolve(address_, length);
        if (length == 0) return finish(INTERNAL);
        if (!place_) return finish(DECODE);
        active_ = true;
        wait_ = LATENCY;
    }

    void finish(std::uint32_t error) {
        active_ = false;
        status_ |= error ? error | HALTED : IDLE | COMPLETE;
    }

    void send() {
        for (; moved_ < length_; moved_ += beat_bytes_)
            put(place_ + moved_, moved_ + beat_bytes_ == length_);
    }

    void receive() {
        while (beats() > 0) {
            if (moved_ == length_) return finish(INTERNAL);  // no TLAST where the buffer ends
            const bool last = get(place_ + moved_);
            moved_ += beat_bytes_;
            if (last) return finish(0);
        }
        if (moved_ == length_) finish(INTERNAL);
    }

    std::string name_;
    bool is_input_;
    std::uint32_t beat_bytes_, frame_beats_;
    std::uint32_t control_ = 0, status_ = HALTED, length_ = 0, moved_ = 0;
    std::uint64_t address_ = 0;
    std::uint8_t* place_ = nullptr;
    bool active_ = false;
    int wait_ = 0;
};

template <class BEAT, int BYTES>
class typed_port : public port {
  public:
    typed_port(const char* name, bool is_input, std::uint32_t frame_beats)
        : port(name, is_input, BYTES, frame_beats) {}

    hls::stream<BEAT> stream;
    std::size_t beats() const override { return stream.size(); }

    // Output beats of a call, with something wrong.
    void spoil(fault planted) {
        std::vector<BEAT> all;
        while (!stream.empty()) all.push_back(stream.read());
        if (all.size() > 1 && planted == EARLY_LAST) all[all.size() / 2].last = 1;
        if (!all.empty() && planted == NO_LAST) all.back().last = 0;
        if (!all.empty() && planted == MISSING_BEAT) all.pop_back();
        for (const BEAT& beat : all) stream.write(beat);
    }

  protected:
    void put(const std::uint8_t* from, bool last) override {
        BEAT beat;
        ap_uint<8 * BYTES> data = 0;
        for (int k = BYTES - 1; k >= 0; --k) data = (data << 8) | ap_uint<8 * BYTES>(from[k]);
        beat.data = data;
        beat.keep = -1;
        beat.strb = -1;
        beat.last = last;
        stream.write(beat);
    }

    bool get(std::uint8_t* to) override {
        const BEAT beat = stream.read();
        ap_uint<8 * BYTES> data = beat.data;
        for (int k = 0; k < BYTES; ++k, data >>= 8)
            to[k] = static_cast<std::uint8_t>(data.to_uint());
        return beat.last;
    }
};

// Everything, addressed as the processor does. GLUE is generated for a project: `ports`, `call`,
// `registers`.
template <class GLUE>
class board {
  public:
    std::uint32_t read(std::uint64_t address) {
        step();
        if (address - CONTROL_BASE < WINDOW) return read_control(address - CONTROL_BASE);
        if (port* engine = engine_at(address)) return engine->read(address % WINDOW);
        return problem("nothing to read at this address"), 0;
    }

    void write(std::uint64_t address, std::uint32_t value) {
        if (address - CONTROL_BASE < WINDOW) return write_control(address - CONTROL_BASE, value);
        if (port* engine = engine_at(address)) return engine->write(address % WINDOW, value);
        problem("nothing to write at this address");
    }

    void plant(fault planted) { planted_ = planted; }

    port* engine_at(std::uint64_t address) {
        const std::uint64_t index = (address - DMA_BASE) / WINDOW;
        return address >= DMA_BASE && index < glue_.ports().size() ? glue_.ports()[index] : nullptr;
    }

    std::uint32_t read_control(std::uint32_t offset) {
        if (offset == 0) {
            const std::uint32_t bits = (running_ ? 1 : 4) | (done_ ? 2 : 0);
            done_ = false;
            return bits;
        }
        if (offset < 0x10) return 0;
        const auto found = GLUE::registers().find(offset);
        if (found == GLUE::registers().end())
            return problem("no register at offset " + std::to_string(offset)), 0;
        return values_[offset];
    }

    void write_control(std::uint32_t offset, std::uint32_t value) {
        if (running_) return problem("a register is written while the accelerator runs");
        if (offset == 0) {
            if (value & 1) running_ = true, executed_ = false, wait_ = LATENCY;
            return;
        }
        if (offset < 0x10) return;
        const auto found = GLUE::registers().find(offset);
        if (found == GLUE::registers().end())
            return problem("no register at offset " + std::to_string(offset));
        if (!found->second) return problem("a result is written");
        values_[offset] = value;
    }

    void step() {
        for (port* one : glue_.ports()) one->step();
        if (!running_ || --wait_ > 0) return;
        if (!executed_) {
            const std::uint64_t frames = glue_.frames(values_);
            for (port* one : glue_.ports())
                if (!one->has(frames)) return;
            executed_ = glue_.call(values_, planted_);
        }
        if (!executed_ || planted_ == NEVER_DONE) return;
        for (port* one : glue_.ports())
            if (!one->is_drained()) return;
        running_ = false;
        done_ = true;
    }

    GLUE glue_;
    std::map<std::uint32_t, std::uint32_t> values_;
    bool running_ = false, done_ = false, executed_ = false;
    int wait_ = 0;
    fault planted_ = NONE;
};

}  // namespace model

#endif
