package main

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"io"
)

// samples sums the first value (a count) of all samples in a profile
// (profile.proto: message Profile field 2 is Sample, whose field 2 is its
// values). -1 when it is none.
func samples(zipped []byte) int {
	unzip, err := gzip.NewReader(bytes.NewReader(zipped))
	if err != nil {
		return -1
	}
	raw, err := io.ReadAll(unzip)
	if err != nil {
		return -1
	}
	total := 0
	fields(raw, func(number, _ uint64, sample []byte) {
		if number != 2 {
			return
		}
		first := true
		fields(sample, func(number, value uint64, packed []byte) {
			if number != 2 || !first {
				return
			}
			// Up to two values are written one by one, more are packed
			// (runtime/pprof/protobuf.go).
			if packed != nil {
				value, _ = binary.Uvarint(packed)
			}
			total += int(value)
			first = false
		})
	})
	return total
}

// fields calls each with every varint and every length-delimited field of a
// protobuf message.
func fields(message []byte, each func(number, value uint64, body []byte)) {
	for len(message) > 0 {
		key, n := binary.Uvarint(message)
		if n <= 0 {
			return
		}
		message = message[n:]
		value, n := binary.Uvarint(message)
		if n <= 0 {
			return
		}
		message = message[n:]
		if key&7 != 2 {
			each(key>>3, value, nil)
			continue
		}
		if value > uint64(len(message)) {
			return
		}
		each(key>>3, 0, message[:value:value])
		message = message[value:]
	}
}
