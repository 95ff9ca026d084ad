// The adapters: one function a kind of golden file. Each throws where a number is not as the file says.
#ifndef KVKEEP_TESTS_GOLDEN_GOLDEN_HPP
#define KVKEEP_TESTS_GOLDEN_GOLDEN_HPP

#include "check.hpp"

namespace golden {

// Files of the format kv-golden-1, by their field `system`.
[[nodiscard]] report run_streaming_llm(const json& file);
[[nodiscard]] report run_streaming_llm_policy_fuzz(const json& file);
[[nodiscard]] report run_lm_infinite(const json& file);
[[nodiscard]] report run_infllm(const json& file);
[[nodiscard]] report run_sirllm(const json& file);
[[nodiscard]] report run_sirllm_policy_fuzz(const json& file);
[[nodiscard]] report run_infllm_repo_stream_llm(const json& file);
[[nodiscard]] report run_infllm_repo_infinite_lm(const json& file);
[[nodiscard]] report run_unlimiformer(const json& file);
[[nodiscard]] report run_unlimiformer_llama(const json& file);

// Tables of other projects, by the name of the file.
[[nodiscard]] report run_rope_inv_freq_tables(const json& file);
[[nodiscard]] report run_rope_rerotation(const json& file);
[[nodiscard]] report run_ov_cache_rotation(const json& file);
[[nodiscard]] report run_hf_sliding_window(const json& file);
[[nodiscard]] report run_mlx_rotating_cache(const json& file);
[[nodiscard]] report run_et_attention_sink_ring(const json& file);
[[nodiscard]] report run_float16_conversions(const json& file);
[[nodiscard]] report run_ggml_q8_0_blocks(const json& file);
[[nodiscard]] report run_ggml_q4_0_blocks(const json& file);

}  // namespace golden

#endif
