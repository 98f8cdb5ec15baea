# Direct segmentation's protocol: a short side of 336 pixels, or what a config sets.
_base_ = './masks.py'
_resize = dict(type='Resize', scale=(2048, 336), keep_ratio=True)
test_pipeline = _base_.test_pipeline
test_pipeline[2] = _resize
tta_pipeline = _base_.tta_pipeline
tta_pipeline.insert(2, _resize)
tta_pipeline[3].transforms.pop(2)
