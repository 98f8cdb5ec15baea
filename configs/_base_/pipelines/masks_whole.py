# MaskCLIP's protocol: a short side of 512 pixels, the image in one piece on the patch grid.
_base_ = './masks.py'
_resize = dict(type='Resize', scale=(2048, 512), keep_ratio=True)
_grid = dict(type='mmtagclip.ResizeToPatchGrid')
test_pipeline = _base_.test_pipeline
test_pipeline[2:3] = [_resize, _grid]
tta_pipeline = _base_.tta_pipeline
tta_pipeline.insert(2, _resize)
tta_pipeline[3].transforms[2] = [_grid]
