"""A backbone and nothing else, so that its features can be used by what needs no more."""

from __future__ import annotations

from slotreel.errors import ConfigError
from slotreel.interfaces import Backbone, Objective, Stream
from slotreel.types import Batch, FrameFeatures, LossOutput, MaskSource, Progress, VideoInfo


class FeaturesOnly(Objective):
    """Gives the features of a backbone; has no masks and nothing to train.

    Args:
        backbone: frames to tokens.
    """

    trainable = False

    def __init__(self, *, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone.requires_grad_(False)

    def features(self, batch: Batch) -> FrameFeatures:
        """Backbone features of the batch's first view."""
        return self.backbone(batch.views[0])

    def training_step(self, batch: Batch, progress: Progress) -> LossOutput:
        """Refused: there is nothing to train.

        Raises:
            ConfigError: always.
        """
        raise ConfigError("model=features has nothing to train; type model=slots")

    def stream(self, video: VideoInfo, *, masks: MaskSource = "auto") -> Stream:
        """Refused: features alone say nothing about objects.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(
            "model=features has no masks of its own; to spread given labels by its features type "
            "./eval.py validate=davis2017_propagation or ./predict.py propagation=dino "
            "first_mask=FILE, to cluster them model=feature_kmeans"
        )
