"""One image through a config's own pipeline and model, without the inferencers."""

from mmengine.dataset import Compose

from mmtagclip.datasets import ResizeToPatchGrid


def framework_way(config, model, path):
    """The data sample of an image, as ``tools/test.py`` makes it.

    Args:
        config: Whose test pipeline reads the image.
        model: The built model.
        path: Of the image.
    """
    pipeline = Compose(config.test_dataloader.dataset.pipeline)
    for step in pipeline.transforms:
        if isinstance(step, ResizeToPatchGrid):
            step.patch_size = model.encoder.patch_size  # as PatchGridHook does it
    data = pipeline({'img_path': str(path)})
    return model.test_step({key: [value] for key, value in data.items()})[0]
