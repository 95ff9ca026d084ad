"""Expected logits for models of every form that kvkeep-eval reads, from a second implementation.

    python3 expected_forms.py [<stories260K.bin>] > expected_forms.txt

Needs torch. All arithmetic is in double precision and nothing is cached. The models are made by a formula from a shape, so
that tests can make them too; stories260K is llama2.c's published one. The rotary frequencies follow Hugging Face
transformers 5 (modeling_rope_utils.py), for a stream whose length is known from the start.
"""
import json
import math
import struct
import sys

import torch

torch.set_default_dtype(torch.float64)
TOKENS = 48
SHAPE = {
    "architectures": ["LlamaForCausalLM"],
    "num_hidden_layers": 2,
    "hidden_size": 24,
    "intermediate_size": 36,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 10,
    "vocab_size": 272,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
    "bos_token_id": 1,
}
FACTORS = {"short_factor": [1.0, 1.5, 2.0, 2.5, 3.0], "long_factor": [1.25, 3.0, 5.0, 8.0, 12.5]}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
CASES = {
    "default": {"rope_theta": 10000.0},
    "untied": {"tie_word_embeddings": False, "num_key_value_heads": 4, "head_dim": None, "hidden_size": 32},
    "one_kv_head": {"num_key_value_heads": 1, "rope_parameters": {"rope_type": "default", "rope_theta": 500000.0}},
    "linear": {"rope_scaling": {"type": "linear", "factor": 4.0}},
    "llama3": {"rope_scaling": {**LLAMA3, "original_max_position_embeddings": 64}, "tie_word_embeddings": False},
    "llama3_length_outside": {"rope_parameters": {**LLAMA3, "rope_theta": 700.0}, "original_max_position_embeddings": 64},
    "yarn": {"rope_scaling": YARN},
    "yarn_betas": {"rope_scaling": {**YARN, "beta_fast": 6, "beta_slow": 0.25, "attention_factor": 0.75}},
    "yarn_mscale": {"rope_scaling": {**YARN, "mscale": 1.5, "mscale_all_dim": 0.5, "truncate": True}},
    "yarn_one_mscale": {"rope_scaling": {**YARN, "factor": 5.0, "mscale": 1.5}},
    "yarn_ratio": {"rope_scaling": {"rope_type": "yarn", "original_max_position_embeddings": 32}},
    "yarn_factor_wins": {"rope_scaling": {**YARN, "factor": 10.0}},
    "yarn_whole_length": {"rope_scaling": {"type": "yarn", "factor": 3.0}, "max_position_embeddings": 40},
    "longrope_short": {"rope_scaling": {"rope_type": "longrope", "factor": 4.0, **FACTORS}},
    "longrope_long": {"rope_scaling": {"type": "longrope", **FACTORS}, "original_max_position_embeddings": 16},
    "longrope_attention": {
        "rope_scaling": {
            "rope_type": "longrope",
            "factor": 4.0,
            "attention_factor": 1.25,
            "original_max_position_embeddings": 16,
            **FACTORS,
        }
    },
}


def frequencies(config, length):
    """The angle per position of every pair, and the factor on q and k."""
    dim = config["head_dim"]
    rope = dict(config.get("rope_scaling") or config.get("rope_parameters") or {})
    kind = rope.get("rope_type", rope.get("type", "default"))
    base = rope.get("rope_theta", config.get("rope_theta", 10000.0))
    inv_freq = 1.0 / base ** (torch.arange(0, dim, 2) / dim)
    longest = config["max_position_embeddings"]
    original = config.get("original_max_position_embeddings", rope.get("original_max_position_embeddings", longest))
    factor = rope.get("factor", longest / original)

    if kind == "linear":
        return inv_freq / factor, 1.0
    if kind == "llama3":
        low, high = rope["low_freq_factor"], rope["high_freq_factor"]
        wavelen = 2 * math.pi / inv_freq
        scaled = torch.where(wavelen > original / low, inv_freq / factor, inv_freq)
        smooth = (original / wavelen - low) / (high - low)
        smoothed = (1 - smooth) * scaled / factor + smooth * scaled
        medium = ~(wavelen < original / high) * ~(wavelen > original / low)
        return torch.where(medium, smoothed, scaled), 1.0
    if kind == "yarn":

        def mscale(scale, weight=1.0):
            return 1.0 if scale <= 1 else 0.1 * weight * math.log(scale) + 1.0

        attention = rope.get("attention_factor")
        if attention is None and rope.get("mscale") and rope.get("mscale_all_dim"):
            attention = mscale(factor, rope["mscale"]) / mscale(factor, rope["mscale_all_dim"])
        if attention is None:
            attention = mscale(factor)

        def pair(rotations):
            return dim * math.log(original / (rotations * 2 * math.pi)) / (2 * math.log(base))

        low = max(math.floor(pair(rope.get("beta_fast") or 32)), 0)
        high = min(math.ceil(pair(rope.get("beta_slow") or 1)), dim - 1)
        ramp = torch.clamp((torch.arange(dim // 2) - low) / (high - low if high != low else 0.001), 0, 1)
        return inv_freq / factor * ramp + inv_freq * (1 - ramp), attention
    if kind == "longrope":
        attention = rope.get("attention_factor")
        if attention is None:
            attention = 1.0 if factor <= 1 else math.sqrt(1 + math.log(factor) / math.log(original))
        return inv_freq / torch.tensor(rope["long_factor" if length > original else "short_factor"]), attention
    assert kind == "default"
    return inv_freq, 1.0


def made_tensor(number, rows, columns):
    """Tensor `number` of a made model: hashed integers in [-1, 1), scaled by 4 / sqrt(columns)."""
    h = (torch.arange(1, rows * columns + 1, dtype=torch.int64) * 2654435761 + number * 2246822519) & 0xFFFFFFFF
    h ^= h >> 15
    h = (h * 73244475) & 0xFFFFFFFF  # below 2^59: no overflow
    h ^= h >> 13
    unit = (h >> 8).double() / 2**23 - 1
    return (unit * (4.0 / math.sqrt(columns))).float().double().reshape(rows, columns)


def layer_shapes(config):
    wide, dim = config["intermediate_size"], config["hidden_size"]
    q, kv = (config[f"num_{h}_heads"] * config["head_dim"] for h in ("attention", "key_value"))
    return {
        "input_layernorm": (1, dim),
        "self_attn.q_proj": (q, dim),
        "self_attn.k_proj": (kv, dim),
        "self_attn.v_proj": (kv, dim),
        "self_attn.o_proj": (dim, q),
        "post_attention_layernorm": (1, dim),
        "mlp.gate_proj": (wide, dim),
        "mlp.up_proj": (wide, dim),
        "mlp.down_proj": (dim, wide),
    }


def made_weights(config):
    """Every tensor by its name; they are numbered from 0 in the order of this function."""
    shapes = {"model.embed_tokens": (config["vocab_size"], config["hidden_size"])}
    for i in range(config["num_hidden_layers"]):
        shapes |= {f"model.layers.{i}.{name}": shape for name, shape in layer_shapes(config).items()}
    shapes |= {"model.norm": (1, config["hidden_size"]), "lm_head": shapes["model.embed_tokens"]}
    return {name: made_tensor(i, *shape) for i, (name, shape) in enumerate(shapes.items())}


def read_llama2c(path):
    """A legacy checkpoint with a tied output, its rows reordered for pairs (c, c + dim / 2)."""
    raw = open(path, "rb").read()
    dim, wide, layers, heads, kv_heads, vocabulary, length = struct.unpack("<7i", raw[:28])
    config = dict(SHAPE, num_hidden_layers=layers, hidden_size=dim, intermediate_size=wide, vocab_size=vocabulary)
    config |= dict(num_attention_heads=heads, num_key_value_heads=kv_heads, head_dim=dim // heads)
    config |= dict(max_position_embeddings=length)
    numbers = torch.frombuffer(bytearray(raw[28:]), dtype=torch.float32).double()
    weights, shapes = {}, layer_shapes(config)

    def take(name, shape):
        nonlocal numbers
        weights[name], numbers = numbers[: math.prod(shape)].reshape(shape), numbers[math.prod(shape) :]

    take("model.embed_tokens", (vocabulary, dim))
    order = ["input_layernorm", "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"]
    for name in [*order, "post_attention_layernorm", "mlp.gate_proj", "mlp.down_proj", "mlp.up_proj"]:
        for i in range(layers):
            take(f"model.layers.{i}.{name}", shapes[name])
    take("model.norm", (1, dim))
    assert len(numbers) == length * dim // heads  # cosines and sines
    for name, rows in weights.items():
        if "q_proj" in name or "k_proj" in name:
            weights[name] = rows.reshape(-1, dim // heads // 2, 2, dim).transpose(1, 2).reshape(rows.shape)
    return config, weights


def norm(config, x, gain):
    return x / torch.sqrt((x * x).mean(-1, keepdim=True) + config["rms_norm_eps"]) * gain


def turn(x, inv_freq, factor):
    """RoPE on x, [n, heads, dim], row i at position i."""
    angle = torch.arange(len(x))[:, None, None] * inv_freq
    a, b = x.chunk(2, -1)
    return factor * torch.cat([a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()], -1)


def logits(config, weights, tokens):
    n, heads, kv_heads = len(tokens), config["num_attention_heads"], config["num_key_value_heads"]
    inv_freq, factor = frequencies(config, n)
    mask = torch.full((n, n), -math.inf).triu(1)
    x = weights["model.embed_tokens"][tokens]
    for i in range(config["num_hidden_layers"]):
        w = {name: weights[f"model.layers.{i}.{name}"] for name in layer_shapes(config)}
        y = norm(config, x, w["input_layernorm"])
        q, k, v = ((y @ w[f"self_attn.{p}_proj"].T).reshape(n, -1, config["head_dim"]) for p in "qkv")
        q, k = turn(q, inv_freq, factor), turn(k, inv_freq, factor)
        k, v = (rows.repeat_interleave(heads // kv_heads, 1) for rows in (k, v))
        scores = torch.einsum("ihd,jhd->hij", q, k) / math.sqrt(config["head_dim"]) + mask
        attended = torch.einsum("hij,jhd->ihd", scores.softmax(-1), v).reshape(n, -1)
        x = x + attended @ w["self_attn.o_proj"].T
        y = norm(config, x, w["post_attention_layernorm"])
        gated = torch.nn.functional.silu(y @ w["mlp.gate_proj"].T) * (y @ w["mlp.up_proj"].T)
        x = x + gated @ w["mlp.down_proj"].T
    head = weights["model.embed_tokens" if config["tie_word_embeddings"] else "lm_head"]
    return norm(config, x, weights["model.norm"]) @ head.T


def report(name, config, weights, shown):
    tokens = [(7 * i * i + 3 * i + 1) % config["vocab_size"] for i in range(TOKENS)]
    rows = logits(config, weights, tokens)
    print("case", name)
    if shown is not None:
        print("config", json.dumps(shown))
    print("tokens", *tokens)
    for i in (0, 1, 17, 33, 47):
        sample = [(97 * i + 37 * n) % config["vocab_size"] for n in range(8)]
        print("logits", i, *(f"{t} {rows[i][t]:.7f}" for t in sample))


for case, changes in CASES.items():
    shown = {name: value for name, value in {**SHAPE, **changes}.items() if value is not None}
    config = {"head_dim": shown["hidden_size"] // shown["num_attention_heads"], **shown}
    report(case, config, made_weights(config), shown)
if len(sys.argv) > 1:
    report("stories260K", *read_llama2c(sys.argv[1]), None)
