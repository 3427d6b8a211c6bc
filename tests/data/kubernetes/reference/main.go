// The reference of tests/data/kubernetes: what a Datadog Cluster Agent makes of `ad.datadoghq.com/service.checks`.
//
// It reads one JSON object a line, with the annotation and what its variables stand for, and writes one a line with what came of
// it. How to run it is told by generate.py, which makes the annotations.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"regexp"
	"sort"
	"strconv"
	"strings"

	"gopkg.in/yaml.v2"
)

type port struct {
	Number int    `json:"number"`
	Name   string `json:"name"`
}

type given struct {
	Checks string `json:"checks"`
	Host   string `json:"host"`
	Ports  []port `json:"ports"`
}

type check struct {
	Name       string          `json:"name"`
	InitConfig json.RawMessage `json:"init_config"`
	Instances  []interface{}   `json:"instances"`
	IgnoreTags bool            `json:"ignore_autodiscovery_tags"`
}

type config struct {
	Name       string   `json:"name"`
	InitConfig string   `json:"init_config"`
	Instances  []string `json:"instances"`
}

type result struct {
	given
	Error string `json:"error,omitempty"`
	// By the keys of the annotation; null where a check can't be resolved.
	Configs map[string]*config `json:"configs,omitempty"`
}

var (
	tags     = []string{"kube_namespace:shop", "kube_service:web"}
	variable = regexp.MustCompile(`‰(.+?)(?:_(.+?))?‰`)
)

func main() {
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 1<<26)
	out := json.NewEncoder(os.Stdout)
	out.SetEscapeHTML(false)
	for in.Scan() {
		var one given
		must(json.Unmarshal(in.Bytes(), &one))
		must(out.Encode(read(one)))
	}
	must(in.Err())
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func read(one given) result {
	var checks map[string]check
	if err := json.Unmarshal([]byte(one.Checks), &checks); err != nil {
		return result{given: one, Error: err.Error()}
	}
	found := result{given: one, Configs: map[string]*config{}}
	for key, each := range checks {
		made, err := one.made(key, each)
		if errors.Is(err, notMap) {
			return result{given: one, Error: err.Error()}
		}
		if err != nil {
			made = nil
		}
		found.Configs[key] = made
	}
	return found
}

var notMap = errors.New("an instance is not a map")

func (one given) made(key string, each check) (*config, error) {
	made := &config{Name: each.Name}
	if made.Name == "" {
		made.Name = key
	}
	if len(each.InitConfig) == 0 {
		each.InitConfig = []byte("{}")
	}
	for _, instance := range each.Instances {
		if _, isMap := instance.(map[string]interface{}); !isMap {
			return nil, notMap
		}
	}
	for _, instance := range each.Instances {
		text, err := json.Marshal(instance)
		must(err)
		written, err := one.resolved(text, !each.IgnoreTags)
		if err != nil {
			return nil, err
		}
		sent, err := patched(written)
		if err != nil {
			return nil, err
		}
		made.Instances = append(made.Instances, sent)
	}
	var err error
	made.InitConfig, err = one.resolved(each.InitConfig, false)
	return made, err
}

func (one given) resolved(text []byte, tagged bool) (written string, err error) {
	var tree interface{}
	if err := yaml.Unmarshal([]byte(strings.ReplaceAll(string(text), "%%", "‰")), &tree); err != nil {
		return "", err
	}
	if tree, err = one.walk(tree); err != nil {
		return "", err
	}
	if m, isMap := tree.(map[interface{}]interface{}); isMap && tagged {
		m["tags"] = merged(m["tags"])
	}
	out, err := yaml.Marshal(&tree)
	return string(out), err
}

// What is done to each instance of a cluster check when it is dispatched: it is read and written once more.
func patched(text string) (string, error) {
	m := map[interface{}]interface{}{}
	if err := yaml.Unmarshal([]byte(text), &m); err != nil {
		return "", err
	}
	m["empty_default_hostname"] = true
	out, err := yaml.Marshal(&m)
	return string(out), err
}

func (one given) walk(value interface{}) (interface{}, error) {
	var err error
	switch v := value.(type) {
	case map[interface{}]interface{}:
		for key, each := range v {
			if v[key], err = one.walk(each); err != nil {
				return nil, err
			}
		}
	case []interface{}:
		for i, each := range v {
			if v[i], err = one.walk(each); err != nil {
				return nil, err
			}
		}
	case string:
		found, err := one.value(v)
		if text, isText := found.(string); isText {
			found = strings.ReplaceAll(text, "‰", "%%")
		}
		return found, err
	}
	return value, nil
}

func (one given) value(text string) (interface{}, error) {
	plain, err := one.replaced(text, one.Host)
	if err != nil || !strings.Contains(one.Host, ":") {
		return plain, err
	}
	if !strings.Contains(text, "‰host") {
		return plain, nil
	}
	fake, _ := one.replaced(text, "127.0.0.1")
	if _, err := url.Parse(fmt.Sprint(fake)); err != nil {
		// The peer leaves the variable: no program can want that.
		return "‰left‰", nil
	}
	bracketed, _ := one.replaced(text, "["+one.Host+"]")
	if _, err := url.Parse(fmt.Sprint(bracketed)); err != nil {
		return plain, nil
	}
	return bracketed, nil
}

func (one given) replaced(text, host string) (interface{}, error) {
	var failed error
	out := variable.ReplaceAllStringFunc(text, func(found string) string {
		parts := variable.FindStringSubmatch(found)
		value, err := one.stands(parts[1], parts[2], host)
		if err != nil {
			failed = err
		}
		return value
	})
	if whole := variable.FindString(text); whole != "" && whole == text {
		if number, err := strconv.ParseInt(out, 0, 64); err == nil {
			return number, failed
		}
		if truth, err := strconv.ParseBool(out); err == nil {
			return truth, failed
		}
	}
	return out, failed
}

func (one given) stands(name, key, host string) (string, error) {
	switch {
	case name == "host":
		return host, nil
	case name == "kube" && key == "namespace":
		return "shop", nil
	case name == "port" && len(one.Ports) > 0 && key == "":
		return strconv.Itoa(one.Ports[len(one.Ports)-1].Number), nil
	case name == "port":
		if index, err := strconv.Atoi(key); err == nil {
			if index >= 0 && index < len(one.Ports) {
				return strconv.Itoa(one.Ports[index].Number), nil
			}
			break
		}
		for _, each := range one.Ports {
			if each.Name == key {
				return strconv.Itoa(each.Number), nil
			}
		}
	}
	return "", fmt.Errorf("%s_%s stands for nothing", name, key)
}

func merged(value interface{}) []string {
	set := map[string]bool{}
	if list, isList := value.([]interface{}); isList {
		for _, each := range list {
			if text, isText := each.(string); isText {
				set[text] = true
			}
		}
	}
	for _, each := range tags {
		set[each] = true
	}
	all := make([]string, 0, len(set))
	for each := range set {
		all = append(all, each)
	}
	sort.Strings(all)
	return all
}
