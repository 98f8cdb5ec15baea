# The image at 224x224.
_base_ = './tags.py'
test_pipeline = _base_.test_pipeline
test_pipeline[1].size = (224, 224)
