# tools/train.py fits a classifier in closed form, in one pass over the images;
# tools/test.py CONFIG work_dirs/<config>/piaa.pth evaluates it.
_base_ = './tags.py'
train_dataloader = dict(
    batch_size=1,
    num_workers=2,
    sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
    collate_fn=dict(type='pseudo_collate'),
)
train_cfg = dict(type='mmtagclip.FitLoop')
# Without effect: nothing has a gradient, but the runner wants one.
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.0))
default_hooks = dict(checkpoint=None, param_scheduler=None)
model_wrapper_cfg = dict(type='mmtagclip.PassThroughWrapper')
