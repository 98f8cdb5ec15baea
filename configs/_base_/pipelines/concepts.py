# SAM 3's protocol: the image at its own size, which the model squeezes to its square.
_base_ = './masks.py'
test_pipeline = _base_.test_pipeline
test_pipeline.pop(2)
# tools/test.py --tta: the image and its mirror image; other scales would be squeezed to the same.
tta_pipeline = _base_.tta_pipeline
tta_pipeline[2].transforms.pop(2)
tta_pipeline[2].transforms.pop(0)
