# The same with the regions of each image, made before: mmtagclip regions, or another tool's files.
_base_ = './masks_resized.py'
_regions = dict(type='mmtagclip.LoadRegions', path='data/regions')
test_pipeline = _base_.test_pipeline
test_pipeline.insert(3, _regions)
tta_pipeline = _base_.tta_pipeline
tta_pipeline.insert(3, _regions)
