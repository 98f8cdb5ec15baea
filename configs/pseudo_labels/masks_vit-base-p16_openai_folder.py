# Pseudo masks of a folder of photographs: pixels whose winning probability is
# under 0.95 after the CRF are 255, as in CLIP-ES.
_base_ = '../cls_seg/cls-seg_vit-base-p16_openai_coco-object_crf.py'
model = dict(with_probabilities=True)
test_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='mmpretrain.CustomDataset',
        data_prefix='data/photos',
        with_label=False,
        extensions=('.jpg', '.jpeg', '.png', '.webp', '.bmp', '.tif', '.tiff'),
        test_mode=True,
        pipeline=[
            dict(type='mmtagclip.LoadImage'),
            dict(type='mmtagclip.KeepImage'),
            dict(
                type='mmtagclip.ResizeToPatchGrid',
                patch_size=16,
                max_side=1344),
            dict(
                type='mmseg.PackSegInputs',
                meta_keys=('sample_idx', 'img_path', 'ori_shape', 'img_shape',
                           'original')),
        ]))
test_cfg = dict(_delete_=True, type='mmtagclip.GenerateLoop', confidence=0.95)
default_hooks = dict(
    _delete_=True,
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=100, log_metric_by_epoch=False))
test_evaluator = []
