# Table 2: baseline (the scribbles alone), full (all masks) and strategy (the labels of both annotators
# with the dense CRF), from original scribbles.
#   table2   DeepLab-v2, PSPNet-50 and PSPNet-101 (mini: three nets on EfficientNet-Lite), each with and
#            without MSC, and its labels with and without the dense CRF
# MSC here is the net of three scales (ws-train --msc), as in DeepLab-v2.
ifeq ($(SCALE),paper)
PSP = --recipe ../recipes/pspnet.json
NET_psp50 = $(PSP) --backbone resnet50
NET_psp101 = $(PSP)
else
NET_psp50 = $(NET) --head pspnet
NET_psp101 = $(NET) --head pspnet --backbone efficientnet-lite1
endif
NET_dl-msc = $(NET) --msc
NET_psp50-msc = $(NET_psp50) --msc
NET_psp101-msc = $(NET_psp101) --msc

# DeepLab without MSC is that of table 1
NETS := dl-msc psp50 psp50-msc psp101 psp101-msc
$(foreach net,$(NETS),\
  $(eval $(call row,$(net)-baseline,$(OUT)/o-scribbles.tar,$(OUT)/o-scribbles.tar --use scribble $(NET_$(net)))) \
  $(eval $(call row,$(net)-full,$(OUT)/set.h5,$(OUT)/set.h5 $(NET_$(net)))) \
  $(eval $(call row,$(net)-strategy,$(OUT)/o-both-crf-%.pfa.tar,$(OUT)/o-both-crf-%.pfa.tar $(NET_$(net)))))
TABLE2 := o-wa hfa o-both-crf $(foreach net,$(NETS),$(net)-baseline $(net)-full $(net)-strategy)
$(eval $(call table,table2,$(foreach row,$(TABLE2),$(row)+raw $(row)+crf)))
