"""Kimi-K2's architecture in small, for training on a CPU (PyTorch).

Parameter names are those of an MLX checkpoint of model type deepseek_v3, so that the trained
weights go to mlx-lm without renaming.  Weights here are bfloat16, rounded (and, at the end of a
training, quantised) copies of the float32 ones that train.py keeps; norms, router and residual
stream are computed in float32.
"""
import math

import torch
import torch.nn.functional as F
from torch import nn

CONFIG = {
    "architectures": ["DeepseekV3ForCausalLM"],
    "model_type": "kimi_k2",
    "hidden_size": 256,
    "intermediate_size": 512,
    "moe_intermediate_size": 128,
    "num_hidden_layers": 5,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "n_shared_experts": 1,
    "n_routed_experts": 16,
    "num_experts_per_tok": 2,
    "routed_scaling_factor": 1.5,
    "q_lora_rank": 128,
    "kv_lora_rank": 128,
    "qk_nope_head_dim": 32,
    "qk_rope_head_dim": 32,
    "v_head_dim": 32,
    "first_k_dense_replace": 1,
    "moe_layer_freq": 1,
    "n_group": 1,
    "topk_group": 1,
    "topk_method": "noaux_tc",
    "scoring_func": "sigmoid",
    "norm_topk_prob": True,
    "hidden_act": "silu",
    "attention_bias": False,
    "rms_norm_eps": 1e-6,
    "rope_theta": 50000.0,
    "rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024,
                     "beta_fast": 1.0, "beta_slow": 1.0, "mscale": 1.0, "mscale_all_dim": 1.0},
    "max_position_embeddings": 4096,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}


def bits_of(path, n_layers):
    """Width and group of a module: mlx-lm's mixed_3_6 idea with 4 bits for attention."""
    if path in ("lm_head", "model.embed_tokens"):
        return (6, 64) if path == "lm_head" else (4, 64)
    if ".self_attn." in path:
        return (4, 32) if path.endswith("embed_q") else (4, 64)
    layer = int(path.split(".")[2])
    if path.endswith("down_proj"):
        return (6, 64) if layer in (0, n_layers - 1) else (4, 64)
    return (4, 64) if layer == 0 else (3, 64)


def fake_quantise(w, bits, group):
    """What mlx-lm stores for w (rounded to bfloat16 first), as float32."""
    shape = w.shape
    x = w.bfloat16().float().view(-1, group)
    lo, hi = x.amin(1, keepdim=True), x.amax(1, keepdim=True)
    n = 2 ** bits - 1
    scale = ((hi - lo) / n).clamp_min_(1e-7)
    low = lo.abs() > hi.abs()
    scale = torch.where(low, scale, -scale)
    edge = torch.where(low, lo, hi)
    q0 = torch.round(edge / scale)
    some = q0 != 0
    scale = torch.where(some, edge / torch.where(some, q0, torch.ones_like(q0)), scale)
    bias = torch.where(some, edge, torch.zeros_like(edge))
    q = x.sub_(bias).div_(scale).round_().clamp_(0, n)
    return q.mul_(scale.bfloat16().float()).add_(bias.bfloat16().float()).view(shape)


def rms_norm(x, weight, eps):
    x = x.float()
    return (x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * weight.float()).bfloat16()


def yarn_frequencies(c):
    """Rotary periods' reciprocals and the attention scale of DeepSeek's YaRN."""
    s, d, base = c["rope_scaling"], c["qk_rope_head_dim"], c["rope_theta"]

    def corr(n):
        return d * math.log(s["original_max_position_embeddings"] / (n * 2 * math.pi)) / (
            2 * math.log(base))

    low = max(math.floor(corr(s["beta_fast"])), 0)
    high = min(math.ceil(corr(s["beta_slow"])), d - 1)
    i = torch.arange(d // 2, dtype=torch.float64)
    keep = 1 - ((i - low) / (high - low if high != low else 0.001)).clamp(0, 1)
    inverse = base ** (-2 * i / d)
    g = 0.1 * s["mscale_all_dim"] * math.log(s["factor"]) + 1
    scale = (c["qk_nope_head_dim"] + d) ** -0.5 * g * g
    return inverse * (keep + (1 - keep) / s["factor"]), scale


class Rope(nn.Module):
    def __init__(self, c, longest):
        super().__init__()
        inverse, self.scale = yarn_frequencies(c)
        angle = torch.outer(torch.arange(longest, dtype=torch.float64), inverse)
        self.register_buffer("cos", angle.cos().float(), persistent=False)
        self.register_buffer("sin", angle.sin().float(), persistent=False)

    def forward(self, x):
        """x: [B, T, heads, d], pairs (2i, 2i+1)."""
        n = x.shape[1]
        a, b = x.float().unflatten(-1, (-1, 2)).unbind(-1)
        cos, sin = self.cos[:n, None], self.sin[:n, None]
        return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2).bfloat16()


class Linear(nn.Module):
    """A weight [.., out, in]; the last axis is quantised."""

    def __init__(self, *shape, gain=1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(*shape) * gain / math.sqrt(shape[-1]))

    def forward(self, x):
        return F.linear(x, self.weight)


class Norm(nn.Module):
    def __init__(self, n, eps):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(n)), eps

    def forward(self, x):
        return rms_norm(x, self.weight, self.eps)


class Attention(nn.Module):
    def __init__(self, c, rope):
        super().__init__()
        h, heads = c["hidden_size"], c["num_attention_heads"]
        self.nope, self.pe, self.v = c["qk_nope_head_dim"], c["qk_rope_head_dim"], c["v_head_dim"]
        self.heads, self.latent, self.rope = heads, c["kv_lora_rank"], rope
        self.q_a_proj = Linear(c["q_lora_rank"], h)
        self.q_a_layernorm = Norm(c["q_lora_rank"], 1e-6)
        self.q_b_proj = Linear(heads * (self.nope + self.pe), c["q_lora_rank"])
        self.kv_a_proj_with_mqa = Linear(self.latent + self.pe, h)
        self.kv_a_layernorm = Norm(self.latent, 1e-6)
        self.embed_q = Linear(heads, self.latent, self.nope, gain=math.sqrt(self.nope / self.latent))
        self.unembed_out = Linear(heads, self.v, self.latent)
        self.o_proj = Linear(h, heads * self.v, gain=0.3)

    def forward(self, x, seen):
        b, t, _ = x.shape
        q = self.q_b_proj(self.q_a_layernorm(self.q_a_proj(x))).view(b, t, self.heads, -1)
        q_nope, q_pe = q.split((self.nope, self.pe), -1)
        latent, k_pe = self.kv_a_proj_with_mqa(x).split((self.latent, self.pe), -1)
        latent = self.kv_a_layernorm(latent)
        k_pe = self.rope(k_pe[:, :, None]).expand(b, t, self.heads, self.pe)
        # One product makes keys and values of every head: [latent, heads * (nope + v)].
        wk = self.embed_q.weight.transpose(1, 2)
        both = F.linear(latent, torch.cat((wk, self.unembed_out.weight), 1).flatten(0, 1))
        k_nope, v = both.view(b, t, self.heads, -1).split((self.nope, self.v), -1)
        q = torch.cat((q_nope, self.rope(q_pe)), -1).transpose(1, 2)
        k = torch.cat((k_nope, k_pe), -1).transpose(1, 2)
        # Written out: PyTorch's fused attention is slower than this backwards on a CPU.
        scores = (q @ k.transpose(2, 3)).float() * self.rope.scale
        p = scores.masked_fill(~seen[:, None], float("-inf")).softmax(-1).bfloat16()
        return self.o_proj((p @ v.transpose(1, 2)).transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    def __init__(self, h, inner):
        super().__init__()
        self.gate_proj, self.up_proj = Linear(inner, h), Linear(inner, h)
        self.down_proj = Linear(h, inner, gain=0.3)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Spread(torch.autograd.Function):
    """Rows to slots (`row` names each slot's row, the one past the end is zero); every row is in
    the slots `at` [n, k], so that the gradient is a sum of k rows."""

    @staticmethod
    def forward(ctx, x, row, at):
        ctx.save_for_backward(at)
        return torch.cat((x, x.new_zeros(1, x.shape[1]))).index_select(0, row)

    @staticmethod
    def backward(ctx, g):
        at, = ctx.saved_tensors
        return g.index_select(0, at.flatten()).view(*at.shape, -1).sum(1), None, None


class Collect(torch.autograd.Function):
    """The reverse of Spread: each row is the sum of its k slots."""

    @staticmethod
    def forward(ctx, y, row, at):
        ctx.save_for_backward(row)
        return y.index_select(0, at.flatten()).view(*at.shape, -1).sum(1)

    @staticmethod
    def backward(ctx, g):
        row, = ctx.saved_tensors
        return torch.cat((g, g.new_zeros(1, g.shape[1]))).index_select(0, row), None, None


class Experts(nn.Module):
    def __init__(self, n, h, inner):
        super().__init__()
        self.gate_proj, self.up_proj = Linear(n, inner, h), Linear(n, inner, h)
        self.down_proj = Linear(n, h, inner, gain=0.3)

    @torch.compiler.disable
    def forward(self, x, chosen, weights):
        """x [N, h]; chosen, weights [N, k]: the rows of each expert padded to the fullest one."""
        n, k = chosen.shape
        experts = self.gate_proj.weight.shape[0]
        order = chosen.flatten().argsort(stable=True)
        counts = torch.bincount(chosen.flatten(), minlength=experts)
        most = (int(counts.max()) + 31) // 32 * 32
        first = counts.cumsum(0) - counts
        expert = chosen.flatten()[order]
        place = expert * most + torch.arange(n * k) - first[expert]
        slot = order.new_full((experts * most,), n * k)
        slot[place] = order
        at = torch.empty_like(order)
        at[order] = place
        row, at = slot // k, at.view(n, k)
        inputs = Spread.apply(x, row, at).view(experts, most, -1)
        w = Spread.apply(weights.view(-1, 1), slot, at.view(-1, 1)).view(experts, most, 1)
        gate = torch.bmm(inputs, self.gate_proj.weight.transpose(1, 2))
        up = torch.bmm(inputs, self.up_proj.weight.transpose(1, 2))
        y = torch.bmm(F.silu(gate) * up * w.bfloat16(), self.down_proj.weight.transpose(1, 2))
        return Collect.apply(y.flatten(0, 1), row, at), counts


class Gate(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.k, self.scaling = c["num_experts_per_tok"], c["routed_scaling_factor"]
        self.weight = nn.Parameter(torch.randn(c["n_routed_experts"], c["hidden_size"]) * 0.03)
        self.register_buffer("e_score_correction_bias", torch.zeros(c["n_routed_experts"]))

    def forward(self, x):
        scores = torch.sigmoid(F.linear(x.float(), self.weight.float()))
        chosen = (scores.detach() + self.e_score_correction_bias).topk(self.k, -1).indices
        w = scores.gather(1, chosen)
        return chosen, w / w.sum(-1, keepdim=True) * self.scaling


class Moe(nn.Module):
    def __init__(self, c):
        super().__init__()
        h, inner = c["hidden_size"], c["moe_intermediate_size"]
        self.gate = Gate(c)
        self.switch_mlp = Experts(c["n_routed_experts"], h, inner)
        self.shared_experts = Mlp(h, inner * c["n_shared_experts"])
        self.load = None

    def forward(self, x):
        rows = x.flatten(0, 1)
        routed, self.load = self.switch_mlp(rows, *self.gate(rows))
        return routed.view(x.shape) + self.shared_experts(x)


class Layer(nn.Module):
    def __init__(self, c, index, rope):
        super().__init__()
        dense = index < c["first_k_dense_replace"]
        self.input_layernorm = Norm(c["hidden_size"], c["rms_norm_eps"])
        self.self_attn = Attention(c, rope)
        self.post_attention_layernorm = Norm(c["hidden_size"], c["rms_norm_eps"])
        self.mlp = Mlp(c["hidden_size"], c["intermediate_size"]) if dense else Moe(c)

    def forward(self, x, seen):
        x = x + self.self_attn(self.input_layernorm(x), seen)
        return x + self.mlp(self.post_attention_layernorm(x))


class Model(nn.Module):
    def __init__(self, c, longest=1024):
        super().__init__()
        self.config = c
        inner = nn.Module()
        inner.embed_tokens = Linear(c["vocab_size"], c["hidden_size"],
                                    gain=math.sqrt(c["hidden_size"]) * 0.5)
        rope = Rope(c, longest)
        inner.layers = nn.ModuleList(Layer(c, i, rope) for i in range(c["num_hidden_layers"]))
        inner.norm = Norm(c["hidden_size"], c["rms_norm_eps"])
        self.model = inner
        self.lm_head = Linear(c["vocab_size"], c["hidden_size"], gain=0.5)

    def hidden(self, ids, text):
        """ids, text [B, T]: a token sees the tokens before it that are of the same text."""
        x = F.embedding(ids, self.model.embed_tokens.weight).float()
        seen = (text[:, :, None] == text[:, None, :]).tril()
        for layer in self.model.layers:
            x = layer(x, seen)
        return self.model.norm(x)

    def forward(self, ids, text=None):
        text = torch.zeros_like(ids) if text is None else text
        return self.lm_head(self.hidden(ids, text)).float()

    def moe_layers(self):
        return [layer.mlp for layer in self.model.layers if isinstance(layer.mlp, Moe)]
