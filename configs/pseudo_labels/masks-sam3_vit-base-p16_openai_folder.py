# Step 1 of a folder of photographs: pseudo masks by SAM 3 asked for TagCLIP's tags.
# Its weights are gated: docs/concepts.md says how to get them.
_base_ = [
    './folder.py',
    '../_base_/methods/tagclip-sam3.py',
    '../_base_/backbones/vit-base-p16_openai.py',
    '../_base_/pseudo_masks.py',
]
work_dir = f'{_base_.out}/masks'
test_pipeline = _base_.test_pipeline
test_pipeline.pop(2)  # SAM 3 squeezes the original image itself
model = dict(
    classes=_base_.classes,
    background=['background'],
    background_rule=dict(type='mmtagclip.MarginBackground', threshold=0.4),
    tagger=dict(
        encoder=_base_.backbone.encoder,
        head=dict(dmar=_base_.backbone.DMAR),
        classes=_base_.classes,
        background='coco_background',
    ),
)
test_dataloader = dict(
    dataset=dict(
        type='mmtagclip.ImageFolder',
        data_prefix=_base_.photos,
        test_mode=True,
        pipeline=test_pipeline,
    )
)
