# Every image below a folder, without labels: set model.classes to your own, a list or a file
# with one class per line.
title = 'any folder, no labels'
dataset = dict(
    type='mmtagclip.ImageFolder',
    data_prefix='data/photos',
    test_mode=True,
)
parts = dict(
    TagCLIP=dict(classes='coco', background='coco_background'),
    # Larger images are shrunk; images that can't be read are named in the tag file and counted.
    LoadImage=dict(on_error='skip'),
    ResizeToPatchGrid=dict(max_side=1024),
)
test_evaluator = []
