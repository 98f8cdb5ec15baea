# Pseudo masks of VOC2012's 10,582 augmented training images, by SAM 3 asked for TagCLIP's tags.
# Its weights are gated: docs/concepts.md says how to get them.
_base_ = [
    '../_base_/methods/tagclip-sam3.py',
    '../_base_/backbones/vit-base-p16_openai.py',
    '../_base_/datasets/masks/voc21.py',
    '../_base_/pseudo_masks.py',
]
test_pipeline = _base_.test_pipeline
test_pipeline.pop(2)  # SAM 3 squeezes the original image itself
model = dict(
    **_base_.parts.ConceptSegmentor,
    background_rule=dict(type='mmtagclip.MarginBackground', threshold=0.4),
    tagger=dict(
        encoder=_base_.backbone.encoder,
        head=dict(dmar=_base_.backbone.DMAR),
        **_base_.parts.TagCLIP,
    ),
)
test_dataloader = dict(
    dataset=dict(
        type='mmtagclip.VocabularySegDataset',
        classes='voc',
        data_root='data/VOCdevkit/VOC2012',
        ann_file='ImageSets/Segmentation/trainaug.txt',
        data_prefix=dict(img_path='JPEGImages'),
        test_mode=True,
        pipeline=test_pipeline,
    )
)
