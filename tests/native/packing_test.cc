#include <cstdio>
#include <map>
#include <string>
#include <vector>

#include "kernels/depthwise/depthwise.h"
#include "kernels/float_depthwise/float_depthwise.h"
#include "kernels/float_gemm/float_gemm.h"
#include "kernels/gemm/gemm.h"
#include "kernels/shallow/shallow.h"
#include "kernels/sparse_gemm/sparse_gemm.h"
#include "random.h"
#include "runtime/crc32c.h"
#include "test.h"

// A plan names kernels and holds weights packed for them. So a kernel's name stands for one packing
// for good: where a digest below is no longer met, the kernel needs another name.

namespace edgekit {
namespace {

constexpr size_t kN = 70;
constexpr size_t kK = 37;
constexpr size_t kTaps = 2;
constexpr size_t kWindow = 3;

/// The same on every platform and in every run. Blocks of zeros are among them.
std::vector<int8_t> make_weights(int lowest, int highest) {
  test::Random random(1);
  std::vector<int8_t> w(kN * kTaps * kK * kWindow * kWindow);
  for (size_t i = 0; i < w.size(); ++i) {
    const auto weight = static_cast<int8_t>(random.integer(lowest, highest));
    w[i] = i % kK / 4 % 3 == 1 ? int8_t{0} : weight;
  }
  return w;
}

using Digests = std::map<std::string, uint32_t>;

template <class T>
void add(Digests* digests, const char* name, const std::vector<T>& packed) {
  (*digests)[name] = crc32c(packed.data(), packed.size() * sizeof(T));
}

Digests pack_all() {
  const std::vector<int8_t> bytes = make_weights(-127, 127);
  const std::vector<int8_t> nibbles = make_weights(-8, 7);
  const std::vector<float> floats(bytes.begin(), bytes.end());
  Digests digests;
  size_t count = 0;
  const GemmKernel* dense = gemm_kernels(&count);
  for (size_t i = 0; i < count; ++i) {
    std::vector<int8_t> packed(packed_gemm_size(dense[i], kN, kK, kTaps));
    pack_gemm(dense[i], (dense[i].bits == 4 ? nibbles : bytes).data(), kN, kK, kTaps,
              packed.data());
    add(&digests, dense[i].name, packed);
  }
  const GemmKernel* sparse = sparse_gemm_kernels(&count);
  for (size_t i = 0; i < count; ++i) {
    add(&digests, sparse[i].name, pack_sparse_gemm(sparse[i], bytes.data(), kN, kK, kTaps));
  }
  const DepthwiseKernel* depthwise = depthwise_kernels(&count);
  for (size_t i = 0; i < count; ++i) {
    std::vector<int8_t> packed(packed_depthwise_size(depthwise[i], kN, kWindow, kWindow));
    pack_depthwise(depthwise[i], bytes.data(), kN, kWindow, kWindow, packed.data());
    add(&digests, depthwise[i].name, packed);
  }
  const ShallowKernel* shallow = shallow_kernels(&count);
  for (size_t i = 0; i < count; ++i) {
    std::vector<int8_t> packed(packed_shallow_size(shallow[i], kN, 3, kWindow, kWindow));
    pack_shallow(shallow[i], bytes.data(), kN, 3, kWindow, kWindow, packed.data());
    add(&digests, shallow[i].name, packed);
  }
  const FloatGemmKernel* float_dense = float_gemm_kernels(&count);
  for (size_t i = 0; i < count; ++i) {
    std::vector<float> packed(packed_float_gemm_size(float_dense[i], kN, kK, kTaps));
    pack_float_gemm(float_dense[i], floats.data(), kTaps * kK, 1, kN, kK, kTaps, packed.data());
    add(&digests, float_dense[i].name, packed);
  }
  const FloatDepthwiseKernel* float_depthwise = float_depthwise_kernels(&count);
  for (size_t i = 0; i < count; ++i) {
    std::vector<float> packed(
        packed_float_depthwise_size(float_depthwise[i], kN, kWindow, kWindow));
    pack_float_depthwise(float_depthwise[i], floats.data(), kN, kWindow, kWindow, packed.data());
    add(&digests, float_depthwise[i].name, packed);
  }
  return digests;
}

const Digests kDigests = {
    {"depthwise_f32_f32_f32_arm_neon", 0x4543E30E},
    {"depthwise_f32_f32_f32_generic", 0x0428940A},
    {"depthwise_f32_f32_f32_x86_avx2", 0xB736B2A3},
    {"depthwise_f32_f32_f32_x86_avx512vnni", 0x0428940A},
    {"depthwise_s8_s8c_s8_arm_neon", 0x03740F4D},
    {"depthwise_s8_s8c_s8_arm_neondot", 0x258B1D3D},
    {"depthwise_s8_s8c_s8_generic", 0x03740F4D},
    {"depthwise_u8_s8c_u8_generic", 0x03740F4D},
    {"depthwise_u8_s8c_u8_x86_avx2", 0xA1494EDD},
    {"depthwise_u8_s8c_u8_x86_avx512vnni", 0x8A2683A4},
    {"depthwise_u8_s8c_u8_x86_avxvnni", 0x2D624922},
    {"gemm_f32_f32_f32_6x16_x86_avx2", 0xA34A2EE7},
    {"gemm_f32_f32_f32_8x48_x86_avx512vnni", 0xA34A2EE7},
    {"gemm_f32_f32_f32_8x8_arm_neon", 0xA9D1FEC0},
    {"gemm_f32_f32_f32_generic", 0xA34A2EE7},
    {"gemm_s8_s4c_s8_1x16c4_generic", 0x7BBDDE35},
    {"gemm_s8_s4c_s8_4x4c16_arm_neon", 0x803F1716},
    {"gemm_s8_s4c_s8_6x16c4_arm_neondot", 0x7BBDDE35},
    {"gemm_s8_s8c_s8_1x16c4_generic", 0x5239FD4C},
    {"gemm_s8_s8c_s8_4x16c2_arm_neon", 0xA2822187},
    {"gemm_s8_s8c_s8_4x4c32_arm_neon", 0xBA7CE660},
    {"gemm_s8_s8c_s8_6x16c4_arm_neondot", 0x5239FD4C},
    {"gemm_s8_s8c_s8_6x16c8_arm_i8mm", 0x0FA10D40},
    {"gemm_u8_s4c_u8_1x16c4_generic", 0x7BBDDE35},
    {"gemm_u8_s4c_u8_4x16c4_x86_avx2", 0x7BBDDE35},
    {"gemm_u8_s4c_u8_6x16c4_x86_avxvnni", 0x7BBDDE35},
    {"gemm_u8_s4c_u8_6x64c4_x86_avx512vnni", 0x7BBDDE35},
    {"gemm_u8_s8c_u8_1x16c4_generic", 0x5239FD4C},
    {"gemm_u8_s8c_u8_2x16c4_x86_avx2", 0x5239FD4C},
    {"gemm_u8_s8c_u8_32x32c4_x86_amx", 0x5239FD4C},
    {"gemm_u8_s8c_u8_4x16c4_x86_avx2", 0x5239FD4C},
    {"gemm_u8_s8c_u8_6x16c4_x86_avxvnni", 0x5239FD4C},
    {"gemm_u8_s8c_u8_6x64c4_x86_avx512vnni", 0x5239FD4C},
    {"gemm_u8_s8c_u8_8x24c8_x86_avx512vnni", 0xD203239A},
    {"shallow_s8_s8c_s8_arm_neon", 0x1D4E8E79},
    {"shallow_s8_s8c_s8_arm_neondot", 0xDB6CA649},
    {"shallow_s8_s8c_s8_generic", 0x73AD776E},
    {"shallow_u8_s8c_u8_generic", 0x73AD776E},
    {"shallow_u8_s8c_u8_x86_avx2", 0x1D4E8E79},
    {"shallow_u8_s8c_u8_x86_avx512vnni", 0xDB6CA649},
    {"shallow_u8_s8c_u8_x86_avxvnni", 0xDB6CA649},
    {"sparse_gemm_s8_s8c_s8_1x16c4_generic", 0x442DDD69},
    {"sparse_gemm_s8_s8c_s8_4x16c4_arm_neon", 0xAE2149B8},
    {"sparse_gemm_s8_s8c_s8_6x16c4_arm_neondot", 0x442DDD69},
    {"sparse_gemm_u8_s8c_u8_12x32c4_x86_avx512vnni", 0x48578AAE},
    {"sparse_gemm_u8_s8c_u8_1x16c4_generic", 0x442DDD69},
    {"sparse_gemm_u8_s8c_u8_2x16c4u2_x86_avx2", 0xAE2149B8},
    {"sparse_gemm_u8_s8c_u8_4x16c4_x86_avx2", 0x442DDD69},
    {"sparse_gemm_u8_s8c_u8_6x16c4_x86_avxvnni", 0x442DDD69},
};

EDGEKIT_TEST(a_name_stands_for_one_packing) {
  std::string changed;
  for (const auto& [name, digest] : pack_all()) {
    const auto known = kDigests.find(name);
    if (known != kDigests.end() && known->second == digest) continue;
    char now[16];
    std::snprintf(now, sizeof(now), "0x%08X", digest);
    changed += "\n    {\"" + name + "\", " + now + "},";
  }
  EDGEKIT_CHECK(changed.empty(), changed);
}

}  // namespace
}  // namespace edgekit
