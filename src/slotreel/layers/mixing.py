"""What slots predict together: a softmax over slots decides who explains each cell."""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from slotreel.layers.channels import split_channels
from slotreel.layers.precision import at_least_float32


class MixtureReadout(nn.Linear):
    """Last layer of a mixture decoder: predictions and a mask logit for each slot and cell.

    Source: Watters et al. 2019, arXiv:1901.07017, as used by Locatello et al. 2020,
    arXiv:2006.15055.
    Differs: slots are mixed before this layer instead of after it. Masks sum to 1, so
    sum_k m_k (W h_k + b) = W (sum_k m_k h_k) + b: the same numbers for 1/K of the work.

    Args:
        inputs: width of a slot's hidden features.
        widths: channels of each prediction, in order; the mask logit comes last.

    Shapes: hidden (B, N', K, inputs) -> pred {name: (B, N', width)}, masks (B, K, N') and, if
    asked for, per_slot {name: (B, K, N', width)}.

    Raises:
        RuntimeError: another input width, from PyTorch.
    """

    def __init__(self, inputs: int, widths: Mapping[str, int]) -> None:
        super().__init__(inputs, sum(widths.values()) + 1)
        self.widths = dict(widths)
        nn.init.zeros_(self.bias)

    def mix(
        self, hidden: Tensor, per_slot: bool = False
    ) -> tuple[dict[str, Tensor], Tensor, dict[str, Tensor] | None]:
        """Predictions of all slots together, masks, and each slot's own predictions if asked."""
        total = self.out_features - 1
        logits = F.linear(hidden, self.weight[total:], self.bias[total:]).squeeze(-1)
        masks = at_least_float32(logits).softmax(dim=-1)  # (B, N', K)
        shares = masks.to(hidden.dtype).unsqueeze(-2)  # (B, N', 1, K)
        weight, bias = self.weight[:total], self.bias[:total]
        own: dict[str, Tensor] | None = None
        if per_slot:
            each = F.linear(hidden, weight, bias)  # (B, N', K, total)
            own = {name: x.transpose(1, 2) for name, x in split_channels(each, self.widths).items()}
            mixed = (shares.to(each.dtype) @ each).squeeze(-2)
        else:
            mixed = F.linear((shares @ hidden).squeeze(-2), weight, bias)
        return split_channels(mixed, self.widths), masks.transpose(1, 2), own
