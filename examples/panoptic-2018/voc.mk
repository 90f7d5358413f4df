# On VOC 2012 (DATA=), whose only stuff is the background; instances are connected parts of each class,
# unless OBJECTS= names a place of instance maps (SegmentationObject and SBD's):
#   table1       semantic segmentation, weak (boxes) and full
#   table1-test  archives of both for the VOC server
#   table2       instances: AP and PQ
#   end-to-end   the instance net trained in pieces and as a whole
#   table3       VOC and COCO, each weak or full: also the rows of tables 1 and 2 with COCO (see coco.mk)
MADE_FROM := OBJECTS BOXFILL DETECTOR PANOPTIC COCO_TRAIN
include ../common.mk

ifeq ($(SCALE),paper)
ARCH := --backbone resnet101 --head pspnet --stride 8 --frozen-norm
NET := $(ARCH) --crop 521 --batch 1 --scale .5 2 --optimizer sgd --lr .001 --new-rate 10 --bias-rate 20 --iterations 150000
DETECTOR := --backbone resnet101 --frozen-norm --crop 601 --batch 2 --iterations 90000
PANOPTIC := --crop 521 --iterations 30000
else
ARCH := --backbone efficientnet-lite0 --head deeplabv3 --stride 16 --width 128
NET := $(if $(filter mini,$(SCALE)),$(MINI),$(SMALL))
DETECTOR := --backbone efficientnet-lite0 --width 64 --anchors 24,48,96,192,320 --lr 5e-4 --new-rate 4 --warm-up 20 \
  --scale .5 1 $(if $(filter mini,$(SCALE)),--crop 225 --batch 4 --rois 128 --iterations 1200,\
  --crop 321 --batch 8 --iterations 4000)
PANOPTIC := --crf-stride 4 $(if $(filter mini,$(SCALE)),--scale .4 .7 --crop 161 --batch 2 \
  --iterations 300,--crop 257 --batch 4 --iterations 1500)
endif
BOXFILL ?= --method agree --rule node --consent paper

# all masks, or boxes filled; each box is an instance
INSTANCES := $(if $(OBJECTS),--with $(OBJECTS),--instances)
$(OUT)/full.h5: $(OUT)/masks.h5
	ws-cat $< $(INSTANCES) --overwrite -o $@
$(OUT)/val.h5: $(VAL) | $(NOTED)
	ws-cat $(TRUTH) --classes voc --keys $< $(INSTANCES) --overwrite -o $@
$(OUT)/rectangles.h5: $(OUT)/full.h5
	ws-weaken $< --boxes --overwrite -o $@
$(OUT)/weak.h5: $(OUT)/rectangles.h5
	ws-boxfill $< --images $(IMAGES) $(BOXFILL) --instances --overwrite -o $@
$(foreach how,weak full,$(eval $(call row,$(how),$(OUT)/$(how).h5,$(OUT)/$(how).h5 $(NET))))

.PRECIOUS: $(OUT)/detector-%/model.safetensors $(OUT)/detected/train-%.h5 $(OUT)/detected/val-%.h5
$(OUT)/detector-%/model.safetensors: $(OUT)/rectangles.h5
	ws-train --task detect $< $(DETECTOR) --images $(IMAGES) --device $(DEVICE) --seed $* --resume -o $(@D)
$(OUT)/detected/train-%.h5: $(OUT)/detector-%/model.safetensors
	ws-predict $(<D) --images $(IMAGES) --keys $(TRAIN) --device $(DEVICE) --overwrite -o $@
$(OUT)/detected/val-%.h5: $(OUT)/detector-%/model.safetensors
	ws-predict $(<D) --images $(IMAGES) --keys $(VAL) --device $(DEVICE) --overwrite -o $@

# $(eval $(call objects,ROW,LABELS,NET,OPTIONS)): an instance net from labels and a segmentation net
define objects
.PRECIOUS: $(OUT)/objects/$(1)-%/model.safetensors
$(OUT)/objects/$(1)-%/model.safetensors: $(OUT)/$(2).h5 $(OUT)/$(3)-%/model.safetensors $(OUT)/detected/train-%.h5
	ws-train --task instance $$< $(ARCH) $(PANOPTIC) $(4) --init $$(word 2,$$^) --detections $$(word 3,$$^) \
	  --images $(IMAGES) --device $(DEVICE) --seed $$* --resume -o $$(@D)
$(OUT)/objects/$(1)-%.tar: $(OUT)/objects/$(1)-%/model.safetensors $(OUT)/detected/val-%.h5
	ws-predict $$(<D) $$(word 2,$$^) --images $(IMAGES) --device $(DEVICE) $(PREDICT) --write instance --overwrite -o $$@
endef
$(foreach how,weak full,$(eval $(call objects,$(how),$(how),$(how))))
$(eval $(call objects,piecewise,weak,weak,--piecewise))

# $(eval $(call scored,FILE,ROWS,OPTIONS OF ws-eval))
define scored
$(call asked,$(1),$(foreach one,$(2),$(SEEDS:%=$(OUT)/objects/$(one)-%.tar)))
$(OUT)/$(1).json: $(foreach one,$(2),$(SEEDS:%=$(OUT)/objects/$(one)-%.tar)) $(OUT)/val.h5
	ws-eval $$(filter %.tar %.h5,$$^) $(3) --bootstrap $(RESAMPLES) --json > $$@
	@$$(NOTE)
endef
AP := --metric ap --rule voc
$(eval $(call table,table1,weak full))
$(eval $(call archives,table1-test,weak full))
$(eval $(call scored,table2-ap,weak full,$(AP)))
$(eval $(call scored,table2-pq,weak full,--metric pq))
$(eval $(call scored,end-to-end,piecewise weak,$(AP)))

.PHONY: table2 end-to-end
table2: $(OUT)/table2-ap.json $(OUT)/table2-pq.json
end-to-end: $(OUT)/end-to-end.json
check: $(OUT)/table1.json $(OUT)/table2-ap.json $(OUT)/table2-pq.json $(OUT)/end-to-end.json
table2 end-to-end check:
	$(CHECK)
include coco.mk
