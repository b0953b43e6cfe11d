// Arrays in .npy files (NumPy's format, versions 1 to 3): little endian, C order, batch first.
#ifndef DCT_NPY_HPP
#define DCT_NPY_HPP

#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

namespace npy {

// `kind` is f (real), i or u (integers), b (0 and 1); `bytes` are those of an element.
struct array {
    char kind = 0;
    std::size_t bytes = 0;
    std::vector<std::size_t> shape;
    std::vector<char> data;

    std::size_t rows() const { return shape.empty() ? 0 : shape[0]; }
    std::size_t size() const { return bytes ? data.size() / bytes : 0; }

    template <class T>
    T at(std::size_t index) const {
        T value;
        std::memcpy(&value, data.data() + index * sizeof value, sizeof value);
        return value;
    }
};

namespace detail {

inline std::string value_of(const std::string& header, const std::string& key,
                            const std::string& path) {
    const std::size_t at = header.find("'" + key + "':");
    if (at == std::string::npos) throw std::runtime_error(path + ": has no " + key);
    std::size_t begin = header.find_first_not_of(' ', at + key.size() + 3);
    if (begin == std::string::npos) throw std::runtime_error(path + ": has a damaged header");
    const std::size_t end =
        header[begin] == '(' ? header.find(')', begin) + 1 : header.find_first_of(",}", begin);
    if (end == std::string::npos || end <= begin)
        throw std::runtime_error(path + ": has a damaged header");
    return header.substr(begin, end - begin);
}

inline std::vector<std::size_t> shape_of(const std::string& text, const std::string& path) {
    std::vector<std::size_t> shape;
    for (std::size_t at = text.find_first_of("0123456789"); at != std::string::npos;
         at = text.find_first_of("0123456789", at)) {
        std::size_t used = 0;
        const unsigned long long size = std::stoull(text.substr(at, 12), &used);
        if (size > (1ULL << 40)) throw std::runtime_error(path + ": is too large");
        shape.push_back(static_cast<std::size_t>(size));
        at += used;
    }
    return shape;
}

}  // namespace detail

// Throws std::runtime_error when the file is none of these.
inline array read(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw std::runtime_error(path + ": cannot be read");
    const std::vector<char> all((std::istreambuf_iterator<char>(file)),
                                std::istreambuf_iterator<char>());
    if (all.size() < 12 || std::memcmp(all.data(), "\x93NUMPY", 6) != 0)
        throw std::runtime_error(path + ": is no .npy file");
    const unsigned char* bytes = reinterpret_cast<const unsigned char*>(all.data());
    const bool is_first = bytes[6] == 1;
    std::size_t length = bytes[8] | bytes[9] << 8;
    if (!is_first)
        length |= static_cast<std::size_t>(bytes[10]) << 16 | std::size_t(bytes[11]) << 24;
    const std::size_t start = is_first ? 10 : 12;
    if (bytes[6] < 1 || bytes[6] > 3 || length > all.size() - start)
        throw std::runtime_error(path + ": has a damaged header");
    const std::string header(all.data() + start, length);
    const std::string type = detail::value_of(header, "descr", path);
    array result;
    if (type.size() != 5 || type[0] != '\'' || (type[1] != '<' && type[1] != '|') ||
        !std::strchr("fiub", type[2]) || !std::strchr("1248", type[3]))
        throw std::runtime_error(path + ": has elements of type " + type + ", which is not read");
    if (detail::value_of(header, "fortran_order", path) != "False")
        throw std::runtime_error(path +
                                 ": is in Fortran order. Save numpy.ascontiguousarray of it.");
    result.kind = type[2];
    result.bytes = static_cast<std::size_t>(type[3] - '0');
    result.shape = detail::shape_of(detail::value_of(header, "shape", path), path);
    result.data.assign(all.begin() + static_cast<std::ptrdiff_t>(start + length), all.end());
    std::size_t expected = result.bytes;
    for (std::size_t size : result.shape) {
        if (size && expected > all.size() / size)
            throw std::runtime_error(path + ": holds fewer elements than its shape says");
        expected *= size;
    }
    if (result.shape.empty() || expected != result.data.size() || result.data.empty())
        throw std::runtime_error(path + ": holds another number of elements than its shape says");
    return result;
}

// Writes beside the target and renames; `type` is as in "<f8".
inline void write(const std::string& path, const std::string& type,
                  const std::vector<std::size_t>& shape, const void* data, std::size_t bytes) {
    std::string header = "{'descr': '" + type + "', 'fortran_order': False, 'shape': (";
    for (std::size_t size : shape) header += std::to_string(size) + ", ";
    header += "), }";
    while ((10 + header.size() + 1) % 64) header += ' ';
    header += '\n';
    const std::string part = path + ".part";
    std::ofstream file(part, std::ios::binary);
    file.write("\x93NUMPY\x01\x00", 8);
    file.put(static_cast<char>(header.size() & 0xff)).put(static_cast<char>(header.size() >> 8));
    file.write(header.data(), static_cast<std::streamsize>(header.size()));
    file.write(static_cast<const char*>(data), static_cast<std::streamsize>(bytes));
    file.close();
    if (!file || std::rename(part.c_str(), path.c_str()) != 0) {
        std::remove(part.c_str());
        throw std::runtime_error(path + ": cannot be written");
    }
}

}  // namespace npy

#endif
