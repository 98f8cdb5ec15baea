_base_ = './cls-seg_demo.py'
# ExCEL's maps: surgery on a second path over the last five blocks.
model = dict(
    cam=dict(type='mmtagclip.SurgeryCAM', last_block=dict(type='mmtagclip.SVCLastBlock')),
    affinity=dict(box_threshold=0.79),
)
