# On COCO (2017, train2017 and val2017):
#   table6   20,000 strong images, the mixture with the other 98,000, and two branches, by class
# COCO= is the folder of annotations/instances_train2017.json, instances_val2017.json, train2017/ and
# val2017/. COCO_N= images are strong; COCO_WEAK= names label maps of the others.
COCO_N ?= $(if $(filter paper,$(SCALE)),20000,20)
COCO_TRAIN ?= train2017
COCO_VAL ?= val2017
COCO_WEAK ?= $(OUT)/coco.rect.tar
COCO_SPLITS := $(sort $(COCO_TRAIN) $(COCO_VAL))
COCO_DUAL = $(if $(filter paper,$(SCALE)),$(call epochs,118287,$(COCO_N)),$(DUAL))
COCO_FILES := $(COCO_SPLITS:%=$(COCO)/annotations/instances_%.json)

$(call wants,table6,$(COCO_FILES),COCO= names the folder of COCO (make data says where it comes from))
$(COCO_SPLITS:%=$(OUT)/coco-%.h5): $(OUT)/coco-%.h5: $(COCO)/annotations/instances_%.json | $(NOTED) $(call from,COCO)
	ws-cat --from coco $(COCO) --split $* --labels --only label --overwrite -o $@
$(OUT)/coco-strong.tar: $(OUT)/coco-$(COCO_TRAIN).h5
	ws-weaken $< --tags --count $(COCO_N) --part strong --overwrite -o $@
$(OUT)/coco-boxes.tar: $(COCO)/annotations/instances_$(COCO_TRAIN).json | $(NOTED) $(call from,COCO)
	ws-cat --from coco $(COCO) --split $(COCO_TRAIN) --only boxes --overwrite -o $@
$(OUT)/coco.rect.tar: $(OUT)/coco-boxes.tar
	ws-boxfill $< --method rect --overwrite -o $@

$(OUT)/coco-val.txt: $(OUT)/coco-$(COCO_VAL).h5
	ls $(COCO)/$(COCO_VAL) | sed 's/[.]jpg$$//' > $@

COCO_ROWS := coco-strong coco-mixture coco-dual
COCO_BOTH := $(OUT)/coco-strong.tar --weak $(COCO_WEAK)
COCO_MODELS := $(foreach row,$(COCO_ROWS),$(SEEDS:%=$(OUT)/$(row)-%/model.safetensors))
$(eval $(call row,coco-strong,$(OUT)/coco-strong.tar,$(OUT)/coco-strong.tar $(NET)))
$(eval $(call row,coco-mixture,$(OUT)/coco-strong.tar $(COCO_WEAK) | $(call from,COCO_WEAK),$(COCO_BOTH) $(NET)))
$(eval $(call row,coco-dual,$(OUT)/coco-strong.tar $(COCO_WEAK) | $(call from,COCO_WEAK),$(COCO_BOTH) --dual $(NET) $(COCO_DUAL)))
$(COCO_MODELS): private IMAGES := $(COCO)/$(COCO_TRAIN)
$(call labels,$(COCO_ROWS)): private IMAGES := $(COCO)/$(COCO_VAL)
$(call labels,$(COCO_ROWS)): private VAL := $(OUT)/coco-val.txt
$(call labels,$(COCO_ROWS)): $(OUT)/coco-val.txt

.PHONY: table6
table6: $(OUT)/table6.json
	@python3 ../check.py expected.json $@ $<
$(eval $(call asked,table6,$(call labels,$(COCO_ROWS))))
$(OUT)/table6.json: $(call labels,$(COCO_ROWS)) $(OUT)/coco-$(COCO_VAL).h5
	ws-eval $(filter %.tar %.h5,$^) --bootstrap $(RESAMPLES) --json > $@
	@$(NOTE)
