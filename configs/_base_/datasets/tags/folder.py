# Every image below a folder, without labels: set model.classes to your own, a list or a file
# with one class per line.
title = 'any folder, no labels'
dataset = dict(
    type='mmpretrain.CustomDataset',
    data_prefix='data/photos',
    with_label=False,
    extensions=(
        '.jpg',
        '.jpeg',
        '.png',
        '.webp',
        '.bmp',
        '.tif',
        '.tiff',
        '.gif',
        '.ppm',
        '.pgm',
    ),
    test_mode=True,
)
parts = dict(
    TagCLIP=dict(classes='coco', background='coco_background'),
    # Larger images are shrunk; images that can't be read are named in the tag file and counted.
    LoadImage=dict(on_error='skip'),
    ResizeToPatchGrid=dict(max_side=1024),
)
test_evaluator = []
