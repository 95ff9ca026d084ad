"""Expected numbers for the tests of kvkeep-eval, from a second implementation of the model and of four policies.

    python3 expected_logits.py <directory of the bundled model> > expected_logits.txt

Needs numpy, and spm_encode (Debian: sentencepiece). All arithmetic is in double precision, nothing is cached, and a policy
is nothing but a list of keys and distances for every query.
"""
import json
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np

MODEL, HERE = Path(sys.argv[1]), Path(__file__).resolve().parent
NEWLINE = 13  # the piece <0x0A>, after <unk>, <s>, </s>, <0x00> ...
SENTENCE = 25  # tokens whose logits are kept: BOS and 24 more
STREAM = 420  # tokens that are predicted for a perplexity

config = json.loads((MODEL / "config.json").read_text())
heads, kv_heads, dim = (config[k] for k in ("num_attention_heads", "num_key_value_heads", "head_dim"))
raw = (MODEL / "model.safetensors").read_bytes()
start = 8 + struct.unpack("<Q", raw[:8])[0]
header = json.loads(raw[8:start])


def weight(name):
    """A bf16 tensor: the upper halves of floats."""
    first, last = header[name + ".weight"]["data_offsets"]
    upper = np.frombuffer(raw[start + first : start + last], "<u2").astype(np.uint32)
    return (upper << 16).view(np.float32).astype(np.float64).reshape(header[name + ".weight"]["shape"])


def encode(file):
    """BOS, then the pieces of every line that is not blank, each ended by the newline piece."""
    command = ["spm_encode", f"--model={MODEL / 'tokenizer.model'}", "--output_format=id", str(file)]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    pieces = [piece for line in lines if line for piece in [*map(int, line.split()), NEWLINE]]
    return [config["bos_token_id"], *pieces]


def norm(x, gain):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + config["rms_norm_eps"]) * gain


def turn(x, distance):
    """RoPE: the rows of x, [n, heads, dim], each turned by its own distance; pairs are (c, c + dim / 2)."""
    angle = np.asarray(distance)[:, None, None] * config["rope_theta"] ** (-np.arange(dim // 2) * 2 / dim)
    a, b = x[..., : dim // 2], x[..., dim // 2 :]
    return np.concatenate([a * np.cos(angle) - b * np.sin(angle), b * np.cos(angle) + a * np.sin(angle)], -1)


def attend(q, k, v, policy):
    """q, k, v: [n, heads, dim], all before RoPE."""
    out = np.empty_like(q)
    for i in range(len(q)):
        keys, distances = policy(i)
        turned = turn(np.repeat(q[i : i + 1], len(keys), 0), distances)
        scores = np.einsum("jhd,jhd->jh", turned, k[keys]) / np.sqrt(dim)
        share = np.exp(scores - scores.max(0))
        out[i] = np.einsum("jh,jhd->hd", share / share.sum(0), v[keys])
    return out


def logits(tokens, policy):
    n = len(tokens)
    x = weight("model.embed_tokens")[tokens]
    for i in range(config["num_hidden_layers"]):
        layer = f"model.layers.{i}."
        y = norm(x, weight(layer + "input_layernorm"))
        q, k, v = (y @ weight(layer + f"self_attn.{p}_proj").T for p in "qkv")
        k, v = (np.repeat(rows.reshape(n, kv_heads, dim), heads // kv_heads, 1) for rows in (k, v))
        x = x + attend(q.reshape(n, heads, dim), k, v, policy).reshape(n, -1) @ weight(layer + "self_attn.o_proj").T
        y = norm(x, weight(layer + "post_attention_layernorm"))
        gate, up = (y @ weight(layer + f"mlp.{p}_proj").T for p in ("gate", "up"))
        x = x + (gate / (1 + np.exp(-gate)) * up) @ weight(layer + "mlp.down_proj").T
    return norm(x, weight("model.norm")) @ weight("model.embed_tokens").T


def log_sum_exp(rows):
    largest = rows.max(-1)
    return np.log(np.exp(rows - largest[..., None]).sum(-1)) + largest


def sinks_and_newest(i, sinks, window):
    return np.array([j for j in range(i + 1) if j < sinks or i - j < window])


def dense(i):
    return np.arange(i + 1), i - np.arange(i + 1)


def sliding_window(window):
    def policy(i):
        keys = sinks_and_newest(i, 0, window)
        return keys, i - keys

    return policy


def streaming_llm(sinks, window):
    def policy(i):
        keys = sinks_and_newest(i, sinks, window)
        return keys, len(keys) - 1 - np.arange(len(keys))

    return policy


def lm_infinite(sinks, window):
    def policy(i):
        keys = sinks_and_newest(i, sinks, window)
        return keys, np.minimum(i - keys, window)

    return policy


stream = encode(HERE / "gettysburg.txt")[: STREAM + 1]
sentence = stream[:SENTENCE]
rows = logits(sentence, dense)
print("tokens", *sentence)
for i in (0, 1, 2, 7, 13, 20, 24):
    likely = np.argsort(-rows[i])[:4]
    spread = [(97 * i + 171 * n) % len(rows[i]) for n in range(12)]
    sample = [f"{t} {rows[i][t]:.7f}" for t in [*likely, *spread]]
    print("logits", i, likely[0], f"{log_sum_exp(rows[i]):.7f}", *sample)

for spec, policy in (
    ("dense", dense),
    ("sliding_window:window=64", sliding_window(64)),
    ("sliding_window:window=256", sliding_window(256)),
    ("streaming_llm:sinks=4,window=60", streaming_llm(4, 60)),
    ("streaming_llm:sinks=4,window=252", streaming_llm(4, 252)),
    ("lm_infinite:sinks=4,window=60", lm_infinite(4, 60)),
    ("lm_infinite:sinks=4,window=252", lm_infinite(4, 252)),
):
    rows = logits(stream[:-1], policy)
    losses = log_sum_exp(rows) - rows[np.arange(STREAM), stream[1:]]
    beyond = losses[config["max_position_embeddings"] :]
    print("perplexity", spec, STREAM, f"{np.exp(losses.mean()):.8f}", f"{np.exp(beyond.mean()):.8f}")

for window, every in ((64, 7), (256, 32)):
    positions = np.arange(every - 1, STREAM, every)
    losses = []
    for p in positions:
        row = logits(stream[max(0, p + 1 - window) : p + 1], dense)[-1]
        losses.append(log_sum_exp(row) - row[stream[p + 1]])
    losses = np.array(losses)
    beyond = losses[positions >= config["max_position_embeddings"]]
    print("recompute", window, every, STREAM, f"{np.exp(losses.mean()):.8f}", f"{np.exp(beyond.mean()):.8f}")
