_base_ = './cls-seg_demo.py'
# Surgery maps of the tagger's own patches in the place of the gradient CAM.
model = dict(cam=dict(type='mmtagclip.SurgeryCAM'), affinity=dict(box_threshold=0.79))
