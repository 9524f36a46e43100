"""Prompt tokens meet the image: four candidate masks, their predicted IoU, and whether the object is there.

After prompt_encoder.py (tokens, dense map) and image_encoder.py (or memory_attention.py in a video).

    [object score | IoU | 4 mask tokens | prompt tokens]  <-- two-way attention -->  image + dense map
           |         |        |                                                            |
        MLP head  MLP head  hypernetwork MLPs --> 4 x 32 weights  .  upscaled image (stride 4, 32 channels)
                                                              = 4 mask logits

Surprises:
- Candidate 0 answers "one mask"; 1..3 answer an ambiguous prompt. A single mask that is unstable (its area
  changes when the threshold moves a little) is replaced by the best of the other three.
- Layer 0 of the transformer starts with a self-attention that has neither position nor residual.
- The stride-8 and stride-4 features enter while upscaling, which is what makes edges sharp.

Source: SAM, arXiv:2304.02643, section 3 and appendix A; SAM 2, arXiv:2408.00714, section 4 "Mask decoder".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sam2kit.config import DecoderConfig
from sam2kit.model.attention import Attention
from sam2kit.model.layers import MLP, LayerNorm2d, within_range

CANDIDATES = 4
_STABILITY_DELTA = 0.05  # logits
_OWN_SHARE = 0.75  # of a mask's own certainty in its predicted IoU; more of the head chooses worse on new things
_SURE = 1e-3  # probabilities nearer to 0 or 1 than this count as so near
_STABILITY_THRESHOLD = 0.98


@dataclass(frozen=True)
class Candidates:
    """What the decoder says about B prompts, M candidate masks each."""

    mask_logits: Tensor  # [B, M, h, w] low-res mask logits at stride 4; > 0 is the object
    predicted_iou: Tensor  # [B, M] in 0..1
    object_score: Tensor  # [B, 1] logit; > 0 means that the object is in the picture
    mask_tokens: Tensor  # [B, M, dim] what object pointers are made of

    def float(self) -> Candidates:
        """The same in float32."""
        return Candidates(*(t.float() for t in vars(self).values()))

    @classmethod
    def joined(cls, parts: Sequence[Candidates]) -> Candidates:
        """All prompts of several answers, one after the other."""
        return cls(*(torch.cat(of_all) for of_all in zip(*(vars(part).values() for part in parts), strict=True)))

    def keep(self, candidates: slice) -> Candidates:
        """Only some of the candidates."""
        return Candidates(
            self.mask_logits[:, candidates],
            self.predicted_iou[:, candidates],
            self.object_score,
            self.mask_tokens[:, candidates],
        )


class MaskDecoder(nn.Module):
    """The two-way transformer and the heads behind it."""

    def __init__(self, config: DecoderConfig, dim: int) -> None:
        super().__init__()
        self.judges_masks = config.judges_masks
        self.transformer = TwoWayTransformer(config, dim)
        self.iou_token = nn.Embedding(1, dim)
        self.mask_tokens = nn.Embedding(CANDIDATES, dim)
        self.obj_score_token = nn.Embedding(1, dim)
        coarse, fine = dim // 4, dim // 8
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(dim, coarse, kernel_size=2, stride=2),
            LayerNorm2d(coarse),
            nn.GELU(),
            nn.ConvTranspose2d(coarse, fine, kernel_size=2, stride=2),
            nn.GELU(),
        )
        if config.takes_detail:
            self.conv_s0 = nn.Conv2d(dim, fine, kernel_size=1)
            self.conv_s1 = nn.Conv2d(dim, coarse, kernel_size=1)
        self.output_hypernetworks_mlps = nn.ModuleList(MLP(dim, dim, fine, layers=3) for _ in range(CANDIDATES))
        self.iou_prediction_head = MLP(dim, dim, CANDIDATES, layers=3)
        self.pred_obj_score_head = MLP(dim, dim, 1, layers=3)

    def project_detail(self, stride4: Tensor, stride8: Tensor) -> tuple[Tensor, Tensor]:
        """Narrow the fine maps once per picture: [B, dim/8, ...] at stride 4 and [B, dim/4, ...] at stride 8."""
        return within_range(self.conv_s0(stride4)), within_range(self.conv_s1(stride8))

    def forward(
        self,
        image: Tensor,
        image_positions: Tensor,
        detail: tuple[Tensor, Tensor] | None,
        sparse: Tensor,
        dense: Tensor,
    ) -> Candidates:
        """Decode B prompts into all four candidates.

        Args:
            image: [B or 1, dim, h, w] image embedding at stride 16; one picture serves all prompts.
            image_positions: [1, dim, h, w] Fourier encoding of the cells.
            detail: stride-4 and stride-8 maps from `project_detail`, batched like `image`; None in models without.
            sparse: [B, N, dim] prompt tokens.
            dense: [B or 1, dim, h, w] encoded mask prompt. Where picture and mask are the same for all prompts, the
                first look of the tokens at the picture is prepared once.
        """
        batch = sparse.shape[0]
        own = torch.cat([self.obj_score_token.weight, self.iou_token.weight, self.mask_tokens.weight])
        tokens = torch.cat([own.expand(batch, -1, -1), sparse], dim=1)
        source = within_range(image + dense)
        tokens, context = self.transformer(source, image_positions, tokens)
        mask_tokens = tokens[:, 2 : 2 + CANDIDATES]
        logits = self._masks(mask_tokens, context.unflatten(2, source.shape[-2:]), detail)
        iou = self.iou_prediction_head(tokens[:, 1])
        if self.judges_masks:
            own = expected_iou(logits.detach()).logit(eps=_SURE).to(iou.dtype)
            iou = torch.lerp(iou, own, _OWN_SHARE)
        return Candidates(
            mask_logits=logits,
            predicted_iou=iou.sigmoid(),
            object_score=self.pred_obj_score_head(tokens[:, 0]),
            mask_tokens=mask_tokens,
        )

    def _masks(self, mask_tokens: Tensor, context: Tensor, detail: tuple[Tensor, Tensor] | None) -> Tensor:
        """[B, 4, dim] tokens and [B, dim, h, w] context -> [B, 4, 4h, 4w] logits."""
        up1, norm, act1, up2, act2 = self.output_upscaling
        if detail is None:
            fine = act2(within_range(up2(act1(norm(up1(context))))))
        else:
            stride4, stride8 = detail
            fine = act1(norm(up1(context) + stride8))
            fine = act2(within_range(up2(fine) + stride4))
        weights = torch.stack([mlp(mask_tokens[:, i]) for i, mlp in enumerate(self.output_hypernetworks_mlps)], dim=1)
        return within_range(weights @ fine.flatten(2)).unflatten(2, fine.shape[-2:])


def choose_candidates(all_four: Candidates, *, multimask: bool, replace_unstable: bool) -> Candidates:
    """Keep the three ambiguous candidates, or the single one.

    Args:
        all_four: the decoder's output, M = 4.
        multimask: True keeps candidates 1..3.
        replace_unstable: for a single mask, fall back on the best of 1..3 where candidate 0 is unstable.
            The mask token stays that of candidate 0 (as published).
    Returns:
        M = 3 or M = 1.
    """
    if multimask:
        return all_four.keep(slice(1, CANDIDATES))
    index = torch.zeros(len(all_four.mask_logits), dtype=torch.long, device=all_four.mask_logits.device)
    if replace_unstable:
        best = all_four.predicted_iou[:, 1:].argmax(dim=1) + 1
        unstable = stability(all_four.mask_logits[:, 0], offset=_STABILITY_DELTA) < _STABILITY_THRESHOLD
        index = torch.where(unstable, best, index)
    rows = torch.arange(len(index), device=index.device)
    return Candidates(
        all_four.mask_logits[rows, index][:, None],
        all_four.predicted_iou[rows, index][:, None],
        all_four.object_score,
        all_four.mask_tokens[:, :1],
    )


def expected_iou(mask_logits: Tensor) -> Tensor:
    """The IoU that masks would have if each pixel belonged to the object with the probability that they give it.

    Args:
        mask_logits: [..., H, W].
    Returns:
        [...] float32 in 0..1; expected overlap by expected union.
    """
    belongs = mask_logits.float().sigmoid()
    taken = (mask_logits > 0).float()
    both, either = (belongs * taken).flatten(-2).sum(-1), torch.maximum(belongs, taken).flatten(-2).sum(-1)
    return both / either.clamp(min=1e-6)


def stability(mask_logits: Tensor, *, offset: float, threshold: float = 0.0) -> Tensor:
    """How little a mask's area depends on the exact threshold.

    Args:
        mask_logits: [..., H, W].
        offset: logits to go up and down.
        threshold: logit that counts as the object.
    Returns:
        [...] area above threshold + offset / area above threshold - offset; 1.0 where both are empty.
    Source: SAM, arXiv:2304.02643, appendix B "Automatic mask generation".
    """
    inner = (mask_logits > threshold + offset).flatten(-2).sum(-1).float()
    outer = (mask_logits > threshold - offset).flatten(-2).sum(-1).float()
    return torch.where(outer > 0, inner / outer, torch.ones_like(outer))


class TwoWayTransformer(nn.Module):
    """Tokens look at the image and the image looks at the tokens, twice."""

    def __init__(self, config: DecoderConfig, dim: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(TwoWayLayer(config, dim, attends_plainly=i == 0) for i in range(config.layers))
        self.final_attn_token_to_image = Attention(
            dim, heads=config.heads, downsample=config.cross_attention_downsample
        )
        self.norm_final_attn = nn.LayerNorm(dim)

    def forward(self, source: Tensor, positions: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """source [B, dim, h, w], positions [1, dim, h, w], tokens [B, N, dim] -> tokens, and context [B, dim, h*w].

        source may have B = 1.
        """
        queries, keys = tokens, source.flatten(2).transpose(1, 2)  # [B, dim, h, w] -> [B, h*w, dim]
        places = positions.flatten(2).transpose(1, 2).to(keys.dtype)
        for layer in self.layers:
            queries, keys = layer(queries, keys, tokens, places)
        seen = self.final_attn_token_to_image(queries + tokens, keys + places, keys)
        return self.norm_final_attn(within_range(queries + seen)), keys.transpose(1, 2)


class TwoWayLayer(nn.Module):
    """Self-attention of tokens, tokens to image, MLP, image to tokens; a LayerNorm after each."""

    def __init__(self, config: DecoderConfig, dim: int, *, attends_plainly: bool) -> None:
        super().__init__()
        narrow = {"heads": config.heads, "downsample": config.cross_attention_downsample}
        self.self_attn = Attention(dim, heads=config.heads)
        self.norm1 = nn.LayerNorm(dim)
        self.cross_attn_token_to_image = Attention(dim, **narrow)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = MLP(dim, config.mlp_dim, dim, layers=2)
        self.norm3 = nn.LayerNorm(dim)
        self.norm4 = nn.LayerNorm(dim)
        self.cross_attn_image_to_token = Attention(dim, **narrow)
        self.attends_plainly = attends_plainly

    def forward(self, queries: Tensor, keys: Tensor, tokens: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        """queries [B, N, dim] and keys [B or 1, L, dim]; tokens and places are their positions."""
        if self.attends_plainly:
            queries = self.norm1(within_range(self.self_attn(queries, queries, queries)))
        else:
            placed = queries + tokens
            queries = self.norm1(within_range(queries + self.self_attn(placed, placed, queries)))
        placed_keys = within_range(keys + places)
        seen = self.cross_attn_token_to_image(queries + tokens, placed_keys, keys)
        queries = self.norm2(within_range(queries + seen))
        queries = self.norm3(within_range(queries + self.mlp(queries)))
        seen = self.cross_attn_image_to_token(placed_keys, queries + tokens, queries)
        keys = self.norm4(within_range(keys + seen))
        return queries, keys
