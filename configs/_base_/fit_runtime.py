# tools/train.py fits a classifier in closed form, in one pass over the images;
# tools/test.py CONFIG work_dirs/<config>/piaa.pth evaluates it.
_base_ = './default_runtime.py'
train_cfg = dict(type='mmtagclip.FitLoop')
# Of no effect: nothing has a gradient, but the runner wants one.
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.0))
default_hooks = dict(checkpoint=None, param_scheduler=None)
model_wrapper_cfg = dict(type='mmtagclip.PassThroughWrapper')
