// The reference of tests/data/wire_bytes: what a Datadog Agent's file reader and a Datadog Cluster Agent make of config files.
//
// It reads one JSON object with the key "file" a line, and writes one a line with what was read.
// How to run it is told by generate.py, which makes the files.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"sort"

	"gopkg.in/yaml.v2"
)

type rawMap map[interface{}]interface{}

type configFile struct {
	ClusterCheck bool        `yaml:"cluster_check"`
	InitConfig   interface{} `yaml:"init_config"`
	JMXMetrics   interface{} `yaml:"jmx_metrics"`
	Logs         interface{} `yaml:"logs"`
	Instances    []rawMap    `yaml:"instances"`
}

// The fields that an agent reads of an instance for its check ID. One of another type and it reads none of them.
type namedInstance struct {
	MinCollectionInterval int      `yaml:"min_collection_interval"`
	EmptyDefaultHostname  bool     `yaml:"empty_default_hostname"`
	Tags                  []string `yaml:"tags"`
	Service               string   `yaml:"service"`
	Name                  string   `yaml:"name"`
	Namespace             string   `yaml:"namespace"`
	NoIndex               bool     `yaml:"no_index"`
}

type instance struct {
	Read    string `json:"read"`
	Patched string `json:"patched"`
	Tagged  string `json:"tagged"`
	// What counts for the digest of the patched and of the tagged text; null: left out.
	PatchedDigested *string `json:"patched_digested"`
	TaggedDigested  *string `json:"tagged_digested"`
	Name            string  `json:"name"`
}

type result struct {
	File       string     `json:"file"`
	Error      string     `json:"error,omitempty"`
	Instances  []instance `json:"instances,omitempty"`
	InitConfig *string    `json:"init_config"`
	JMXMetrics *string    `json:"jmx_metrics,omitempty"`
	Logs       *string    `json:"logs,omitempty"`
}

var extraTags = []string{"env:prod", "10:20"}

func main() {
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 1<<26)
	out := json.NewEncoder(os.Stdout)
	out.SetEscapeHTML(false)
	for in.Scan() {
		var given struct{ File string }
		must(json.Unmarshal(in.Bytes(), &given))
		must(out.Encode(read(given.File)))
	}
	must(in.Err())
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func read(text string) (r result) {
	defer func() {
		if p := recover(); p != nil {
			r = result{File: text, Error: fmt.Sprint(p)}
		}
	}()
	r.File = text
	var file configFile
	if err := yaml.Unmarshal([]byte(text), &file); err != nil {
		return result{File: text, Error: err.Error()}
	}
	r.InitConfig = again(written(file.InitConfig))
	r.JMXMetrics = written(file.JMXMetrics)
	if file.Logs != nil {
		r.Logs = again(written(map[string]interface{}{"logs": file.Logs}))
	}
	for _, each := range file.Instances {
		r.Instances = append(r.Instances, served(marshal(each)))
	}
	return r
}

// The agent reads all but metrics twice: it looks for %%env_...%% in what it read first.
func again(text *string) *string {
	if text == nil {
		return nil
	}
	var tree interface{}
	must(yaml.Unmarshal([]byte(*text), &tree))
	twice := marshal(&tree)
	return &twice
}

func written(value interface{}) *string {
	if value == nil {
		return nil
	}
	text := marshal(value)
	return &text
}

func marshal(value interface{}) string {
	out, err := yaml.Marshal(value)
	must(err)
	return string(out)
}

func served(text string) instance {
	text = *again(&text)
	one := instance{Read: text, Patched: changed(text, func(m rawMap) { m["empty_default_hostname"] = true })}
	one.Tagged = changed(one.Patched, func(m rawMap) { m["tags"] = merged(m["tags"], extraTags) })
	one.PatchedDigested, one.TaggedDigested = digested(one.Patched), digested(one.Tagged)
	one.Name = name(one.Tagged)
	return one
}

func changed(text string, change func(rawMap)) string {
	m := rawMap{}
	must(yaml.Unmarshal([]byte(text), &m))
	change(m)
	return marshal(&m)
}

func printed(tags interface{}) []string {
	list, _ := tags.([]interface{})
	texts := make([]string, len(list))
	for i, tag := range list {
		texts[i] = fmt.Sprint(tag)
	}
	return texts
}

func merged(tags interface{}, extra []string) []string {
	set := map[string]bool{}
	for _, tag := range append(printed(tags), extra...) {
		set[tag] = true
	}
	all := []string{}
	for tag := range set {
		all = append(all, tag)
	}
	sort.Strings(all)
	return all
}

func digested(text string) *string {
	m := rawMap{}
	must(yaml.Unmarshal([]byte(text), &m))
	if tags, found := m["tags"]; found {
		if _, isList := tags.([]interface{}); !isList {
			return nil
		}
		texts := printed(tags)
		sort.Strings(texts)
		m["tags"] = texts
	}
	out := marshal(&m)
	return &out
}

func name(text string) string {
	var named namedInstance
	if yaml.Unmarshal([]byte(text), &named) != nil {
		return ""
	}
	if named.Name != "" {
		return named.Name
	}
	return named.Namespace
}
