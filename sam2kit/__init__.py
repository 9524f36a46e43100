"""sam2kit: segment anything in pictures and videos with SAM 2.

    import sam2kit

    model = sam2kit.load_model("sam2.1-hiera-tiny")
    predictor = sam2kit.ImagePredictor(model)
    embedding = predictor.encode("photo.jpg")
    masks = predictor.predict(embedding, sam2kit.Prompt([[120, 80]]))

For videos see `VideoPredictor`; for fine-tuning, `sam2kit.training.finetune`. Importing this brings torch,
but no user interface and no plotting library.
"""

from sam2kit.config import PRESETS, SAM2Config, __version__, preset
from sam2kit.data.opening import open_dataset
from sam2kit.hub import HubError
from sam2kit.media.clip import Clip
from sam2kit.media.clips import open_clip
from sam2kit.media.pictures import read_picture
from sam2kit.model.sam2 import SAM2
from sam2kit.predict.automatic import AutomaticMasks, AutomaticOptions, FoundMask, to_detections
from sam2kit.predict.detector import Detector, DetectorOptions
from sam2kit.predict.frame_masks import FrameMasks
from sam2kit.predict.image import ImageEmbedding, ImagePredictor, Masks
from sam2kit.predict.options import ImageOptions, SpeedOptions, VideoOptions
from sam2kit.predict.prompts import FramePrompt, Prompt
from sam2kit.predict.refine import refine_masks
from sam2kit.predict.session import Session
from sam2kit.predict.stream import VideoStream
from sam2kit.predict.video import VideoPredictor
from sam2kit.weights import load_model, push_to_hub, save_model

__all__ = [
    "PRESETS",
    "SAM2",
    "AutomaticMasks",
    "AutomaticOptions",
    "Clip",
    "Detector",
    "DetectorOptions",
    "FoundMask",
    "FrameMasks",
    "FramePrompt",
    "HubError",
    "ImageEmbedding",
    "ImageOptions",
    "ImagePredictor",
    "Masks",
    "Prompt",
    "SAM2Config",
    "Session",
    "SpeedOptions",
    "VideoOptions",
    "VideoPredictor",
    "VideoStream",
    "__version__",
    "load_model",
    "open_clip",
    "open_dataset",
    "preset",
    "push_to_hub",
    "read_picture",
    "refine_masks",
    "save_model",
    "to_detections",
]
