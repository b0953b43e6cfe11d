// Stands in for XRT's native API on a machine without a card: what host.cpp uses of it, over the
// model. Data movers are the model's DMA engines. Host and device have memories of their own, which
// only sync() makes equal.
#ifndef STANDIN_XRT_H
#define STANDIN_XRT_H

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "registers.h"

extern "C" {
std::uint32_t model_read32(std::uint64_t address);
void model_write32(std::uint64_t address, std::uint32_t value);
void model_map(std::uint64_t address, void* pointer, std::uint64_t size);
void model_unmap(std::uint64_t address);
std::uint32_t model_beat_bytes(std::uint64_t engine);
void model_plant(int fault);
}

enum ert_cmd_state {
    ERT_CMD_STATE_COMPLETED = 4,
    ERT_CMD_STATE_ERROR = 5,
    ERT_CMD_STATE_TIMEOUT = 8
};
enum xclBOSyncDirection { XCL_BO_SYNC_BO_TO_DEVICE, XCL_BO_SYNC_BO_FROM_DEVICE };

namespace xrt {

typedef int uuid;

// The image is the JSON file that tests/host/hardware.py writes.
struct device {
    explicit device(unsigned index) {
        if (index) throw std::runtime_error("No such device");
    }

    uuid load_xclbin(const std::string& path) {
        std::ifstream file(path);
        if (!file) throw std::runtime_error("Failed to open " + path);
        text->assign(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
        if (const char* fault = std::getenv("MODEL_FAULT")) model_plant(std::atoi(fault));
        return 1;
    }

    std::uint64_t address_of(const std::string& name) const {
        const std::string key = "\"" + name + "\": ";
        const std::size_t at = text->find(key);
        if (at == std::string::npos) throw std::runtime_error("No compute units with name " + name);
        return std::stoull(text->substr(at + key.size()));
    }

    int streams() const {
        int count = 0;
        for (std::size_t at = 0; (at = text->find("\"dma_", at)) != std::string::npos; ++at)
            ++count;
        return count;
    }

    std::shared_ptr<std::string> text = std::make_shared<std::string>();
};

class bo {
  public:
    bo() {}
    bo(const device&, std::size_t size, int group) : host_(new std::vector<char>(size, 0x5a)) {
        if (group < 0) throw std::runtime_error("no such memory");
        static std::uint64_t next = 0x170000000;  // above 4 GiB: both halves of addresses matter
        address_ = next;
        next += (size + 0xfff) / 0x1000 * 0x1000 + 0x1000;
        card_ = std::make_shared<std::vector<char> >(size, static_cast<char>(0xa5));
        model_map(address_, card_->data(), size);
    }

    explicit operator bool() const { return host_ != nullptr; }
    std::size_t size() const { return host_->size(); }
    std::uint64_t address() const { return address_; }
    void write(const void* from, std::size_t size, std::size_t seek) {
        check(size, seek);
        std::memcpy(host_->data() + seek, from, size);
    }
    void read(void* to, std::size_t size, std::size_t skip) {
        check(size, skip);
        std::memcpy(to, host_->data() + skip, size);
    }
    void sync(xclBOSyncDirection direction, std::size_t size, std::size_t offset) {
        check(size, offset);
        char *host = host_->data() + offset, *card = card_->data() + offset;
        if (direction == XCL_BO_SYNC_BO_TO_DEVICE)
            std::memcpy(card, host, size);
        else
            std::memcpy(host, card, size);
    }

  private:
    void check(std::size_t size, std::size_t offset) const {
        if (offset + size > host_->size()) throw std::runtime_error("outside the buffer");
    }

    std::shared_ptr<std::vector<char> > host_, card_;
    std::uint64_t address_ = 0;
};

// "NAME:{NAME_1}"; a mover is the engine dma_IDENTIFIER.
class kernel {
  public:
    enum class cu_access_mode { exclusive, shared, none };

    kernel() {}
    kernel(const device& where, const uuid&, const std::string& name,
           cu_access_mode mode = cu_access_mode::shared)
        : mode_(mode) {
        const std::string plain = name.substr(0, name.find(':'));
        if (name != plain + ":{" + plain + "_1}") throw std::runtime_error("no instance " + name);
        streams_ = where.streams();
        is_sender_ = plain.rfind("mm2s_", 0) == 0;
        is_mover_ = is_sender_ || plain.rfind("s2mm_", 0) == 0;
        address_ = where.address_of(is_mover_ ? "dma_" + plain.substr(5) : "accelerator_0");
    }

    int group_id(int argument) const {
        const bool has_memory =
            is_mover_ ? argument == 0
                      : argument == streams_ + 2 || argument == streams_ + 3 || argument >= streams_ + 7;
        if (!has_memory) throw std::runtime_error("the argument has no memory");
        return argument;
    }

    std::uint32_t read_register(std::uint32_t offset) const {
        if (mode_ != cu_access_mode::exclusive)
            throw std::runtime_error("Cannot read or write kernel with shared access");
        return model_read32(address_ + offset);
    }

  private:
    friend class run;
    std::uint64_t address_ = 0;
    int streams_ = 0;
    bool is_mover_ = false, is_sender_ = false;
    cu_access_mode mode_ = cu_access_mode::shared;
};

class run {
  public:
    run() {}
    explicit run(const kernel& started) : kernel_(started) {}

    template <class T>
    void set_arg(int index, const T& value) {
        values_[index] = static_cast<std::uint64_t>(value);
    }
    void set_arg(int index, const bo& buffer) { values_[index] = buffer.address(); }

    void start() {
        if (kernel_.is_mover_) return start_mover();
        static const std::uint32_t offsets[] = {
            ACCELERATOR_FRAMES,     ACCELERATOR_BUILD_ID,     ACCELERATOR_WEIGHT_CODES,
            ACCELERATOR_WEIGHT_RAW, ACCELERATOR_WEIGHT_BYTES, ACCELERATOR_LOAD,
        };
        // Arguments that were not set keep what they were: nothing to rely on.
        for (const auto& [index, value] : values_) {
            const int place = index - kernel_.streams_;
            const std::uint32_t offset =
                place < 7 ? offsets[place] : ACCELERATOR_FURTHER_WEIGHTS + 0x10 * (place - 7);
            model_write32(kernel_.address_ + offset, static_cast<std::uint32_t>(value));
            if (place >= 7 || offset == ACCELERATOR_WEIGHT_CODES || offset == ACCELERATOR_WEIGHT_RAW)
                model_write32(kernel_.address_ + offset + 4,
                              static_cast<std::uint32_t>(value >> 32));
        }
        model_write32(kernel_.address_, 1);
    }

    ert_cmd_state wait(const std::chrono::milliseconds&) const {
        for (int k = 0; k < 20000; ++k) {
            if (!kernel_.is_mover_) {
                if (model_read32(kernel_.address_) & 2) return ERT_CMD_STATE_COMPLETED;
                continue;
            }
            const std::uint32_t status = model_read32(channel() + 4);
            if (status & 0x70) return ERT_CMD_STATE_ERROR;
            if (status & 2) return ERT_CMD_STATE_COMPLETED;
        }
        return ERT_CMD_STATE_TIMEOUT;
    }

  private:
    std::uint64_t channel() const { return kernel_.address_ + (kernel_.is_sender_ ? 0 : 0x30); }

    void start_mover() {
        const std::uint64_t address = values_.at(0);
        model_write32(channel(), 1);
        model_write32(channel() + 0x18, static_cast<std::uint32_t>(address));
        model_write32(channel() + 0x1c, static_cast<std::uint32_t>(address >> 32));
        model_write32(channel() + 0x28, static_cast<std::uint32_t>(values_.at(1)) *
                                            model_beat_bytes(kernel_.address_));
    }

    kernel kernel_;
    std::map<int, std::uint64_t> values_;
};

}  // namespace xrt

#endif
