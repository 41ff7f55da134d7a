module gotap.test/memstats

go 1.19
