# Fitted to the test scenes themselves, whose labels are not looked at: there are no others
# here. A bank of 64 patches a class and not of 512: there are only 120 scenes.
_base_ = '../tags/demo.py'
title = 'Demo, 120 scenes'
train_dataset = _base_.dataset
parts = dict(GaussianClassifier=dict(bank_size=64))
