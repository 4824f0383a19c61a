import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * Takes each output of one partition of a sink exactly once, whatever happens to the leader, to Kafka
 * or to this program: java -cp 'kafka-libs/*' ResultsConsumer.java BOOTSTRAP TOPIC PARTITION FILE
 *
 * <p>Outputs carry `seq`, dense from 0 in each partition. After a failure some may be in the topic
 * twice, so what is not greater than the last one is dropped; what is greater by more than one is a
 * gap, and an error. The effect of an output is here a line in FILE, and the place is kept with it:
 * each line begins with the output's seq and its offset. A database does the same in a transaction.
 */
public class ResultsConsumer {
  record Place(long seq, long offset) {}

  private static final ObjectMapper JSON = new ObjectMapper();

  public static void main(String[] arguments) throws IOException {
    var partition = new TopicPartition(arguments[1], Integer.parseInt(arguments[2]));
    var file = Path.of(arguments[3]);
    Place place = lastPlace(file);
    Map<String, Object> settings =
        Map.of(
            "bootstrap.servers", arguments[0],
            "key.deserializer", ByteArrayDeserializer.class,
            "value.deserializer", ByteArrayDeserializer.class,
            "enable.auto.commit", false, // the place is kept with the effects
            "auto.offset.reset", "none", // a place that Kafka no longer has is an error
            "isolation.level", "read_uncommitted"); // there are no Kafka transactions here
    try (var consumer = new KafkaConsumer<byte[], byte[]>(settings);
        var out = FileChannel.open(file, StandardOpenOption.CREATE, StandardOpenOption.APPEND)) {
      consumer.assign(List.of(partition));
      consumer.seek(partition, place == null ? firstOffset(consumer, partition) : place.offset + 1);
      long last = place == null ? -1 : place.seq;
      while (true) {
        for (var record : consumer.poll(Duration.ofMillis(500))) {
          last = take(record, last, out);
        }
        out.force(false);
      }
    }
  }

  /** The sequence that was taken last, now. */
  private static long take(ConsumerRecord<byte[], byte[]> record, long last, FileChannel out)
      throws IOException {
    long seq = JSON.readTree(record.value()).get("seq").asLong();
    if (seq <= last) {
      return last; // published again by a leader that was deposed
    }
    if (seq > last + 1) {
      System.err.printf("gap: seq %d at offset %d follows %d%n", seq, record.offset(), last);
      System.exit(4);
    }
    String value = new String(record.value(), StandardCharsets.UTF_8);
    String line = seq + " " + record.offset() + " " + value + "\n";
    ByteBuffer bytes = ByteBuffer.wrap(line.getBytes(StandardCharsets.UTF_8));
    while (bytes.hasRemaining()) {
      out.write(bytes);
    }
    return seq;
  }

  /** Where the topic begins, which must be at its first output: nothing is known of what was before. */
  private static long firstOffset(KafkaConsumer<?, ?> consumer, TopicPartition partition) {
    long first = consumer.beginningOffsets(List.of(partition)).get(partition);
    if (first > 0) {
      System.err.printf("%s begins at offset %d: say where to begin%n", partition, first);
      System.exit(5);
    }
    return first;
  }

  /** Of the last whole line; a line that this program was killed in is cut off. */
  private static Place lastPlace(Path path) throws IOException {
    Place found = null;
    long whole = 0;
    try (var file = new RandomAccessFile(path.toFile(), "rw")) {
      byte[] bytes = new byte[(int) file.length()];
      file.readFully(bytes);
      for (int start = 0, end = 0; end < bytes.length; end++) {
        if (bytes[end] == '\n') {
          String[] words = new String(bytes, start, end - start, StandardCharsets.UTF_8).split(" ", 3);
          found = new Place(Long.parseLong(words[0]), Long.parseLong(words[1]));
          start = end + 1;
          whole = start;
        }
      }
      file.setLength(whole);
    }
    return found;
  }
}
