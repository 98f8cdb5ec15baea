# Pseudo tags of a folder of photographs, in any number of processes and starts.
_base_ = '../tagclip/tagclip_vit-base-p16_openai_folder.py'
test_cfg = dict(type='mmtagclip.GenerateLoop')
default_hooks = dict(
    _delete_=True,
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=100))
