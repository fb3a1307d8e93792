"""A start that already holds copying circuits, so that a few minutes of CPU training are enough.

Layer 0 gets two heads that look at the token before; layer 1 gets two heads that look for the token whose predecessor
equals the current one and copy it (an induction circuit). Everything else is random and everything trains.
"""

import torch


@torch.no_grad()
def structured_start(model, seed: int) -> None:
    config, g = model.config, torch.Generator().manual_seed(seed)
    width, size, share = config.hidden_size, config.head_dim, config.num_attention_heads // config.num_key_value_heads
    half = size // 2
    theta = config.rope_theta ** (-torch.arange(half) / half)

    def orthonormal(rows: int) -> torch.Tensor:
        return torch.linalg.qr(torch.randn(width, rows, generator=g))[0].T.contiguous()

    for layer in model.model.layers:
        for m in (layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj, layer.mlp.gate_proj, layer.mlp.up_proj):
            m.weight.normal_(0, width**-0.5, generator=g)
        for m in (layer.self_attn.o_proj, layer.mlp.down_proj):
            m.weight.normal_(0, 0.01, generator=g)

    embed = model.model.embed_tokens.weight
    embed.normal_(0, 0.3, generator=g)
    embed[:, 0] = 1.2  # a constant coordinate, from which position-only queries and keys are made
    constant = 1.2 / 0.31  # its value after RMSNorm

    first, second = model.model.layers[0].self_attn, model.model.layers[1].self_attn
    slow = [d for d in range(size) if d % half >= 7]  # RoPE turns these slowly: content matches over a distance
    copied = torch.zeros(width, width)
    for j in range(2):
        q, kv = slice(share * j * size, (share * j + 1) * size), slice(j * size, (j + 1) * size)
        # Layer 0: the score is a sum of cos(theta * (distance - 1)) over the fast pairs.
        first.q_proj.weight[q] = 0.0
        first.k_proj.weight[kv] = 0.0
        for i in range(4):
            first.k_proj.weight[kv.start + i, 0] = 7.0 / constant
            first.q_proj.weight[q.start + i, 0] = 7.0 / constant * torch.cos(theta[i])
            first.q_proj.weight[q.start + half + i, 0] = -7.0 / constant * torch.sin(theta[i])
        read, write = orthonormal(size), orthonormal(size)
        read[:, 0] = 0.0
        first.v_proj.weight[kv] = read
        first.o_proj.weight[:, q] = write.T
        # Layer 1: key = the token before (as layer 0 wrote it), query = the token itself.
        second.q_proj.weight[q] = 0.0
        second.k_proj.weight[kv] = 0.0
        for d in slow:
            second.q_proj.weight[q.start + d] = 2.4 * read[d]
            second.k_proj.weight[kv.start + d] = 2.4 * write[d]
        out = orthonormal(size)
        out[:, 0] = 0.0
        second.v_proj.weight[kv] = out
        second.o_proj.weight[:, q] = 4.0 * out.T
        copied += out.T @ out
    model.lm_head.weight.copy_(embed @ copied)
    model.lm_head.weight.mul_(0.8)
    model.lm_head.weight.add_(torch.randn(embed.shape, generator=g) * 0.01)
