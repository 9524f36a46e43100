"""The official package's names over this one, so that an existing script runs by changing its import line.

    from sam2kit.compat import SAM2ImagePredictor, SAM2AutomaticMaskGenerator, build_sam2
    from sam2kit.compat import build_sam2_video_predictor

Arguments, returned shapes and numbers are the official ones, and so are the parts of the model that fine-tuning scripts
touch (internals.py); the few differences on purpose are stated in each module.
"""

from sam2kit.compat.build import build_sam2, build_sam2_hf, preset_of_config
from sam2kit.compat.image_predictor import SAM2AutomaticMaskGenerator, SAM2ImagePredictor
from sam2kit.compat.video_predictor import SAM2VideoPredictor, build_sam2_video_predictor, build_sam2_video_predictor_hf

__all__ = [
    "SAM2AutomaticMaskGenerator",
    "SAM2ImagePredictor",
    "SAM2VideoPredictor",
    "build_sam2",
    "build_sam2_hf",
    "build_sam2_video_predictor",
    "build_sam2_video_predictor_hf",
    "preset_of_config",
]
