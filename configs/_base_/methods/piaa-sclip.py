_base_ = './piaa.py'
model = dict(encoder=dict(last_block=dict(type='mmtagclip.SCLIPLastBlock')))
