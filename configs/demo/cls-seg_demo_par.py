_base_ = './cls-seg_demo.py'
model = dict(post_processor=dict(type='mmtagclip.PAR'))
